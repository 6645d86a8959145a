// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The cluster itself: jobs run, and a preempted job comes back on the other host.
func TestCluster(t *testing.T) {
	need(t)
	j := workplace(t, "cluster").submit("echo run ${SLURM_RESTART_COUNT:-0} >>log; [ -n \"$SLURM_RESTART_COUNT\" ] || exec sleep 60", "-t", "5")
	j.await("its first run", time.Minute, func() bool { return len(j.hosts()) == 1 })
	occupy(t, j.hosts()[0], "20")
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	if h := j.hosts(); len(h) != 2 || h[0] == h[1] {
		t.Errorf("ran on %v", h)
	}
	if got := j.read("log"); got != "run 0\nrun 1\n" {
		t.Errorf("log %q", got)
	}
	j.expectStates("PREEMPTED", "COMPLETED")
}

func TestPreemptedJobResumesOnTheOtherHost(t *testing.T) {
	needQuietEnd(t)
	const rounds = 40
	j := workplace(t, "preempt").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 500 0", rounds), "-p", "low", "-t", "10")
	j.awaitRound(8, "out")
	occupy(t, j.hosts()[0], "30")
	j.awaitState(3*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectStates("PREEMPTED", "COMPLETED")
	if h := j.hosts(); len(h) != 2 || h[0] == h[1] {
		t.Errorf("ran on %v", h)
	}
}

// GraceTime is announced to the batch script where the job asks for it.
func TestPreemptionWithGraceTime(t *testing.T) {
	needEsky(t)
	const rounds = 30
	j := workplace(t, "grace").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 500 0", rounds),
		"-p", "grace", "-t", "10", "--signal=B:USR1@30")
	j.awaitRound(8, "out")
	begin := time.Now()
	occupy(t, j.hosts()[0], "20")
	j.await("its requeue", 15*time.Second, func() bool { return j.show()["Restarts"] == "1" })
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("left %v after the announcement", d)
	}
	j.awaitState(3*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectStates("REQUEUED", "COMPLETED")
}

func TestJobLongerThanItsTimeLimit(t *testing.T) {
	needEsky(t)
	const rounds = 85 // at least 85 s, in slices of one minute
	j := workplace(t, "limit").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 1000 0", rounds), "-t", "1")
	after := workplace(t, "limit-after").submit("cp ../limit/out seen", "-d", "afterok:"+j.id)
	j.await("its second run", 3*time.Minute, func() bool {
		if s := after.show()["JobState"]; s != "PENDING" {
			t.Fatalf("the dependant is %s before the job has finished", s)
		}
		return len(j.hosts()) == 2
	})
	j.awaitState(3*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectReturns("COMPLETED")
	after.awaitState(time.Minute, "COMPLETED", "0:0")
	if after.read("seen") != j.read("out") {
		t.Error("the dependant ran before the output was complete")
	}
}

// One of an array's tasks has the array's own job id, and a requeue of that id
// would requeue all of them.
func TestArrayTaskRequeuesItselfOnly(t *testing.T) {
	needEsky(t)
	const rounds = 50
	j := workplace(t, "array")
	j.submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 500 0 result.$SLURM_ARRAY_TASK_ID", rounds), "--array=0-2", "-c1", "-t", "10", "-o", "out.%a", "-e", "err.%a")
	leader := ""
	for i := range 3 {
		j.awaitRound(5, fmt.Sprintf("result.%d", i))
		if task := fmt.Sprintf("%s_%d", j.id, i); j.showID(task)["JobId"] == j.id {
			leader = task
		}
	}
	if leader == "" {
		t.Fatalf("no task has the array's job id: %v", j.show())
	}
	on(t, "scancel", "--batch", "--signal=USR1", leader)
	j.await("the leader's requeue", time.Minute, func() bool { return j.showID(leader)["Restarts"] == "1" })
	for i := range 3 {
		task := fmt.Sprintf("%s_%d", j.id, i)
		j.await("completion of "+task, 2*time.Minute, func() bool { return j.showID(task)["JobState"] == "COMPLETED" })
		if r := j.showID(task)["Restarts"]; (r == "1") != (task == leader) {
			t.Errorf("task %s was restarted %s times", task, r)
		}
		j.expect(rounds, fmt.Sprintf("result.%d", i))
		if task == leader {
			j.expectStatesOf(task, nil, "REQUEUED", "COMPLETED")
		} else {
			j.expectStatesOf(task, nil, "COMPLETED")
		}
	}
}

func TestRequeuedByItsUser(t *testing.T) {
	needQuietEnd(t)
	const rounds = 30
	j := workplace(t, "requeue").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 500 3", rounds), "-t", "10")
	j.awaitRound(8, "out")
	on(t, "scontrol", "requeue", j.id)
	j.await("its second run", time.Minute, func() bool { return len(j.hosts()) == 2 })
	if c := j.show()["Comment"]; !strings.HasPrefix(c, "esky: ") {
		t.Errorf("comment %q", c)
	}
	j.awaitState(time.Minute, "FAILED", "3:0") // the program's own exit status
	j.expect(rounds, "out")
	j.expectStates("REQUEUED", "FAILED")
}

func TestCancelledJobStaysCancelled(t *testing.T) {
	needQuietEnd(t)
	j := workplace(t, "cancel").submit("exec esky-wrap run -- ../count 200 500 0", "-t", "10")
	j.awaitRound(5, "out")
	on(t, "scancel", j.id)
	j.await("its end", time.Minute, func() bool { return j.show()["JobState"] == "CANCELLED" })
	time.Sleep(8 * time.Second) // longer than a requeue takes
	if rec := j.show(); rec["JobState"] != "CANCELLED" || rec["Restarts"] != "0" {
		t.Errorf("the job came back: %v", rec)
	}
	j.expectStates("CANCELLED")
	key := "slurm-" + j.id
	if len(j.images()) != 1 {
		t.Errorf("%d images are left", len(j.images()))
	}
	on(t, "/opt/esky/bin/esky-wrap", "prune", "--store", j.name+"/.esky", "--all", key)
	if len(j.images()) != 0 {
		t.Error("an image is left that was pruned")
	}
}

func TestTruncationIsWarnedOf(t *testing.T) {
	needEsky(t)
	for mode, want := range map[string]bool{"truncate": true, "append": false} {
		j := workplace(t, "open-"+mode).submit("exec esky-wrap run -- ../count 2 100 0", "-t", "5", "--open-mode="+mode)
		j.awaitState(time.Minute, "COMPLETED", "0:0")
		if got := strings.Contains(j.read("err"), "--open-mode=append"); got != want {
			t.Errorf("--open-mode=%s: warned %v; stderr %q", mode, got, j.read("err"))
		}
	}
}

func TestStepTakesTheJobAlong(t *testing.T) {
	needEsky(t)
	const rounds = 30
	j := workplace(t, "step").submit(fmt.Sprintf("srun -n1 esky-wrap run -- ../count %d 500 0 result", rounds), "-n1", "-t", "10")
	j.awaitRound(8, "result")
	on(t, "scancel", "--signal=USR1", j.id+".0")
	j.await("its requeue", time.Minute, func() bool { return j.show()["Restarts"] == "1" })
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "result")
	j.expectStates("REQUEUED", "COMPLETED")
}

// Several commands of one script, one of them twice, and a requeue in the last.
func TestCommandsOfAScriptHaveImagesOfTheirOwn(t *testing.T) {
	needQuietEnd(t)
	const script = `for i in 1 2; do esky-wrap run -- sh -c 'echo done >>log'; done
esky-wrap run -- ../count 5 10 0 first
exec esky-wrap run -- ../count 30 500 0 last`
	j := workplace(t, "script").submit(script, "-t", "10")
	j.awaitRound(8, "last")
	on(t, "scontrol", "requeue", j.id)
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	if got := j.read("log"); got != "done\ndone\n" {
		t.Errorf("the command in the loop left %q", got)
	}
	j.expect(5, "first")
	j.expect(30, "last")
	j.expectStates("REQUEUED", "COMPLETED")
}

// The same line three times, and a requeue in the second: what is done is not
// done again, what was interrupted is resumed, and what is left is done.
func TestLoopOfOneCommandLine(t *testing.T) {
	needQuietEnd(t)
	const rounds = 16
	j := workplace(t, "loop").submit(fmt.Sprintf("for i in 1 2 3; do srun -n1 esky-wrap run -- sh -c '../count %d 400 0 >>log'; done", rounds),
		"-n1", "-t", "10")
	lines := func() int { return strings.Count(j.read("log"), "\n") }
	j.await("the second run of the line", time.Minute, func() bool { return lines() >= rounds+5 })
	on(t, "scontrol", "requeue", j.id)
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	once, err := exec.Command(filepath.Join(home(), "count"), fmt.Sprint(rounds), "0", "0").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := j.read("log"), strings.Repeat(string(once), 3); got != want {
		t.Errorf("%d lines instead of %d", lines(), 3*rounds)
	}
	j.expectStates("REQUEUED", "COMPLETED")
}

// A job that cannot be resumed on any host must not go round for ever.
func TestHopelessJobIsHeld(t *testing.T) {
	needQuietEnd(t)
	j := workplace(t, "hopeless")
	program := filepath.Join(j.dir, "count")
	install := func(src string) {
		if out, err := exec.Command("cp", "--remove-destination", src, program).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	install(filepath.Join(home(), "count"))
	j.submit("exec esky-wrap run -- ./count 200 500 0", "-t", "10")
	j.awaitRound(5, "out")
	on(t, "scontrol", "requeue", j.id)
	j.await("its first image", time.Minute, func() bool { return len(j.images()) > 0 })
	install("/bin/true") // nothing can resume an image without its program
	j.await("being held", 3*time.Minute, func() bool {
		rec := j.show()
		return rec["JobState"] == "PENDING" && rec["Priority"] == "0" // which is what held means
	})
	rec := j.show()
	if !strings.HasPrefix(rec["Comment"], "esky: held: ") {
		t.Errorf("comment %q", rec["Comment"])
	}
	if n := len(j.hosts()); n > 6 {
		t.Errorf("%d runs before it was held", n)
	}
	if len(j.images()) == 0 {
		t.Error("its images are gone")
	}
}

// A host that dies takes no farewell: the last periodic image counts, and what
// the program wrote after it is taken back.
func TestHostFails(t *testing.T) {
	needEsky(t)
	const rounds = 60
	j := workplace(t, "fails").submit(fmt.Sprintf("exec esky-wrap run --every 3s -- ../count %d 500 0", rounds), "-t", "10")
	j.awaitRound(14, "out")
	host := j.hosts()[0]
	slurm(t, "kill", host)
	t.Cleanup(func() { slurm(t, "restart", host) })
	j.await("its second run", 3*time.Minute, func() bool { return len(j.hosts()) == 2 })
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectStates("NODE_FAIL", "COMPLETED")
	if h := j.hosts(); h[0] == h[1] {
		t.Errorf("ran on %v", h)
	}
}

// The hooks ran, and what esky leaves on a host goes with the job.
func TestHooksLeaveTheHostsClean(t *testing.T) {
	need(t)
	for _, host := range []string{"n1", "n2"} {
		if state := strings.TrimSpace(on(t, "sinfo", "-h", "-n", host, "-p", "low", "-o", "%t")); state == "drain" || state == "down" {
			t.Errorf("%s is %s", host, state)
		}
		j := workplace(t, "clean-"+host).submit("exec sleep 1", "-w", host)
		j.awaitState(time.Minute, "COMPLETED", "0:0")
		left := slurm(t, "exec", host, "sh", "-c", "ls /tmp/esky-5001/*.sock 2>/dev/null; true")
		if left != "" {
			t.Errorf("left on %s: %s", host, left)
		}
	}
	if _, err := os.Stat("../../bin/esky-hook"); err != nil {
		t.Error(err)
	}
}
