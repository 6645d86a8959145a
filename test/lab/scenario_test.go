// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A partition that cancels what it preempts does not requeue it, whatever the job
// was submitted with. The first of the jobs is told at once, the second only by
// SIGTERM at the end of the grace time.
func TestPreemptedByCancelComesBack(t *testing.T) {
	needQuietEnd(t)
	cases := []struct {
		name, signal string
		flags, want  []string
	}{
		{"told", "signal USR1", []string{"--signal=B:USR1@30"}, []string{"REQUEUED", "COMPLETED"}},
		{"late", "signal TERM", nil, []string{"PREEMPTED", "REQUEUED", "COMPLETED"}},
	}
	rounds, seconds := 60, "12"
	if !harness.All() { // the end of the grace time is seen late, at 20 seconds
		cases, rounds, seconds = cases[:1], 24, "4"
	}
	var jobs []*job
	for _, c := range cases {
		j := workplace(t, "cancel-"+c.name).submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 400 0", rounds),
			append(c.flags, "-p", "cancel", "-w", "n1", "-t", "10")...)
		jobs = append(jobs, j)
		j.awaitRound(5, "out")
	}
	occupy(t, "n1", seconds)
	for i, j := range jobs {
		j.awaitState(2*time.Minute, "COMPLETED", "0:0")
		j.expect(rounds, "out")
		j.expectStates(cases[i].want...)
		if !strings.Contains(j.read("err"), cases[i].signal) {
			t.Errorf("%s did not leave for %s: %s", j.name, cases[i].signal, j.read("err"))
		}
	}
}

// The user's signal before the time limit goes to the batch script with B:, and
// to the tasks of steps without.
func TestSignalBeforeTheLimit(t *testing.T) {
	needEsky(t)
	t.Parallel()
	const rounds = 80
	for name, c := range map[string]struct{ line, signal string }{
		"script": {"exec esky-wrap run", "B:USR2@110"},
		"steps":  {"srun -n1 esky-wrap run", "USR2@110"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := workplace(t, "signal-"+name).submit(fmt.Sprintf("%s -- ../count %d 400 0 result", c.line, rounds), "-p", "shared", "-n1", "-t", "2", "--signal="+c.signal)
			j.await("its requeue", 100*time.Second, func() bool { return j.show()["Restarts"] == "1" })
			if !strings.Contains(j.read("err"), "signal USR2") {
				t.Errorf("it left for something else: %s", j.read("err"))
			}
			j.awaitState(3*time.Minute, "COMPLETED", "0:0")
			j.expect(rounds, "result")
			j.expectReturns("COMPLETED")
		})
	}
}

func TestSuspendedJobGoesOn(t *testing.T) {
	needEsky(t)
	t.Parallel()
	const rounds = 25
	j := workplace(t, "suspend").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 400 0", rounds), "-p", "shared", "-t", "10")
	j.awaitRound(5, "out")
	rootOn(t, "ctl", "scontrol", "suspend", j.id)
	time.Sleep(4 * time.Second) // Slurm stops its processes after two
	before := j.read("out")
	if state := j.show()["JobState"]; state != "SUSPENDED" {
		t.Errorf("the job is %s", state)
	}
	time.Sleep(2 * time.Second)
	if j.read("out") != before {
		t.Error("the job ran while it was suspended")
	}
	rootOn(t, "ctl", "scontrol", "resume", j.id)
	j.awaitState(time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectStates("COMPLETED")
}

// Two tasks of one step are two jobs to esky, and one to Slurm.
func TestStepOfSeveralTasks(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	const rounds = 40
	j := workplace(t, "tasks").submit(fmt.Sprintf(`srun -n2 sh -c 'exec esky-wrap run -- ../count %d 300 0 result.$SLURM_PROCID'`, rounds),
		"-p", "shared", "-N1", "-n2", "-t", "10")
	for i := range 2 {
		j.awaitRound(8, "result."+itoa(i))
	}
	on(t, "scancel", "--signal=USR1", j.id)
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	for i := range 2 {
		j.expect(rounds, "result."+itoa(i))
	}
	j.expectStates("REQUEUED", "COMPLETED")
	if n := strings.Count(j.read("err"), "resumed "); n != 2 {
		t.Errorf("%d of 2 tasks were resumed: %s", n, j.read("err"))
	}
}

// Two equal lines that a script starts at once are two jobs, now and when they come back.
func TestEqualLinesAtOnce(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	const rounds = 40
	j := workplace(t, "twins").submit(fmt.Sprintf(`for i in 1 2; do srun --exact -n1 esky-wrap run -- sh -c '../count %d 300 0 result.$ESKY_JOB' & done
wait`, rounds), "-p", "shared", "-N1", "-n2", "-t", "10")
	var results []string
	j.await("both to run", time.Minute, func() bool {
		results, _ = filepath.Glob(filepath.Join(j.dir, "result.*"))
		return len(results) == 2
	})
	for _, r := range results {
		j.awaitRound(8, filepath.Base(r))
	}
	on(t, "scontrol", "requeue", j.id)
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	for _, r := range results {
		j.expect(rounds, filepath.Base(r))
	}
	j.expectStates("REQUEUED", "COMPLETED")
}

// The components of a heterogeneous job are requeued together, by the id of the
// first.
func TestHeterogeneousJob(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	const rounds = 40
	j := workplace(t, "het").submit(fmt.Sprintf(`for i in 0 1; do srun --het-group=$i esky-wrap run -- ../count %d 300 0 result.$i & done
wait`, rounds), "-p", "shared", "-n1", "-t", "10", ":", "-p", "shared", "-n1", "-t", "10")
	for i := range 2 {
		j.awaitRound(8, "result."+itoa(i))
	}
	if j.show()["HetJobId"] != j.id {
		t.Errorf("no heterogeneous job: %v", j.show())
	}
	// Only the second component's step is told to leave: it has to take the whole job along.
	on(t, "scancel", "--signal=USR1", j.id+"+1")
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	for i := range 2 {
		j.expect(rounds, "result."+itoa(i))
	}
	j.expectStates("REQUEUED", "COMPLETED")
}

// What stands before the command is run in each attempt, what stands after it
// only when it has really ended.
func TestCommandsBeforeAndAfter(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, j *job){
		"requeue": func(t *testing.T, j *job) { on(t, "scontrol", "requeue", j.id) },
		"signal":  func(t *testing.T, j *job) { on(t, "scancel", "--signal=USR1", j.id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rounds = 30
			j := workplace(t, "around-"+name).submit(fmt.Sprintf(`echo before >>log
srun -n1 esky-wrap run -- ../count %d 400 3 result
echo "after $?" >>log`, rounds), "-p", "shared", "-n1", "-t", "10")
			j.awaitRound(8, "result")
			leave(t, j)
			j.awaitState(2*time.Minute, "COMPLETED", "0:0")
			if got := j.read("log"); got != "before\nbefore\nafter 3\n" {
				t.Errorf("log %q", got)
			}
			j.expect(rounds, "result")
			j.expectStates("REQUEUED", "COMPLETED")
		})
	}
}

// script is a job script of testdata, without its first line.
func script(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	return rest
}

// Scripts that keep their books in the job's comment and requeue themselves, as
// NERSC taught them to, only need another checkpoint command.
func TestScriptThatRequeuesItself(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	j := workplace(t, "variable").submit(script(t, "variable-time.sh"),
		"-p", "shared", "-t", "10", "--time-min=5", "--comment=00:20:00", "--signal=B:USR1@60")
	j.awaitRound(8, "result")
	on(t, "scancel", "--batch", "--signal=USR1", j.id)
	j.await("its second run", time.Minute, func() bool { return len(j.hosts()) == 2 })
	// The script's own books: what is left of the 20 minutes, and the limit it asked for.
	rec := j.show()
	if c := rec["Comment"]; !strings.HasPrefix(c, "00:19:") {
		t.Errorf("comment %q", c)
	}
	// Slurm grants less where something is to come on the host, down to --time-min.
	if limit := rec["TimeLimit"]; limit > "00:09:00" || limit < "00:05:00" {
		t.Errorf("time limit %s", limit)
	}
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	j.expect(40, "result")
	j.expectStates("REQUEUED", "COMPLETED")
}

// A launcher as submitit: python in the tasks of an array, with a handler of SIGUSR2
// that would checkpoint its own way and requeue. esky takes the signal first, and the
// launcher never notices.
func TestPythonLauncher(t *testing.T) {
	needEsky(t)
	harness.Need(t, "/usr/bin/python3", "python3")
	t.Parallel()
	j := workplace(t, "launcher")
	harness.CopyProgram(t, "testdata/launcher.py", filepath.Join(j.dir, "launcher.py"))
	j.submit(`mkdir -p $SLURM_ARRAY_TASK_ID; srun -n1 --unbuffered --output log.%a.out --error log.%a.err \
	esky-wrap run -- /usr/bin/python3 -u launcher.py $SLURM_ARRAY_TASK_ID`,
		"-p", "shared", "-n1", "-t", "10", "--array=0-1", "-o", "out.%a", "-e", "err.%a", "--signal=USR2@90", "--open-mode=append")
	for i := range 2 {
		j.await("the task to run", time.Minute, func() bool { return strings.Contains(j.read("log."+itoa(i)+".out"), "step 8\n") })
	}
	on(t, "scancel", "--signal=USR2", j.id+"_1")
	for i, want := range [][]string{{"COMPLETED"}, {"REQUEUED", "COMPLETED"}} {
		task := j.id + "_" + itoa(i)
		j.await("completion of "+task, 2*time.Minute, func() bool { return j.showID(task)["JobState"] == "COMPLETED" })
		j.expectStatesOf(task, nil, want...)
		out := j.read("log." + itoa(i) + ".out")
		if !strings.HasSuffix(out, "\nresult 1999000 0\n") || strings.Count(out, "step 8\n") != 1 {
			t.Errorf("task %d: %s\n%s", i, out, j.read("log."+itoa(i)+".err"))
		}
	}
}

// The backfill scheduler may grant less time than was asked for (--time-min), here
// because one CPU of the host is reserved from then on: the granted limit is what
// esky has to obey.
func TestTimeMinimum(t *testing.T) {
	needEsky(t)
	t.Parallel()
	rootOn(t, "ctl", "scontrol", "create", "reservation", "ReservationName=soon", "StartTime=now+90", "Duration=5", "Nodes=n2", "CoreCnt=1", "Users=root", "Flags=IGNORE_JOBS")
	const rounds = 60
	j := workplace(t, "timemin").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 1000 0", rounds),
		"-p", "shared", "-w", "n2", "-N1", "-n1", "-c2", "-t", "10", "--time-min=1")
	j.awaitRun()
	if rec := j.show(); rec["TimeMin"] != "00:01:00" || rec["TimeLimit"] != "00:01:00" {
		t.Errorf("no shorter limit was granted: %v", rec)
	}
	j.await("its requeue", 3*time.Minute, func() bool { return j.show()["Restarts"] == "1" })
	rootOn(t, "ctl", "scontrol", "delete", "ReservationName=soon")
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "out")
	j.expectReturns("COMPLETED")
}

// doctor says in a job what this Slurm will do to it.
func TestDoctorInAJob(t *testing.T) {
	needEsky(t)
	t.Parallel()
	j := workplace(t, "doctor").submit("esky-wrap doctor >doctor", "-p", "shared", "-n1", "-t", "3", "--no-requeue")
	j.awaitState(time.Minute, "COMPLETED", "0:0")
	told := j.read("doctor")
	for _, want := range []string{
		"job " + j.id + " of slurm, ends at ", "20 s between the signal to end and the kill",
		"preemption in partition shared is PreemptMode=REQUEUE without GraceTime",
		"after a failure of the host nobody does", "/doctor/doctor is emptied", "KillWait is 20s",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("nothing of %q in\n%s", want, told)
		}
	}
}

func (j *job) awaitRun() {
	j.t.Helper()
	j.await("its start", 2*time.Minute, func() bool { return len(j.hosts()) > 0 })
}
