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

// How qacct shows a run: failed and exit status.
const (
	migrated = "24/"   // its migr_command was called
	again    = "25/99" // it asked to be queued again
	done     = "0/0"
)

// Suspension means migration: the job is saved, ended, and started again.
func TestGridEngineSuspendedJobMigrates(t *testing.T) {
	t.Parallel()
	const rounds = 40
	j := geJob(t, "ge-suspend").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0", rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(8, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	j.awaitEnd(2*time.Minute, migrated+"75", done)
	j.expect(rounds, "out")
	j.wantRestarted("0 2")
}

// A queue that is suspended, by a job of a better one or by an administrator,
// drives its jobs to the other host.
func TestGridEngineSuspendedQueueDrivesJobsOut(t *testing.T) {
	t.Parallel()
	const rounds = 60
	j := geJob(t, "ge-queue").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0", rounds), "-ckpt", "esky", "-q", "low.q")
	j.awaitRound(5, "out")
	first := j.awaitRun(1)
	geJob(t, "ge-better").submit("exec sleep 6", "-q", "high.q@"+first)
	second := j.awaitRun(2)
	j.awaitRound(25, "out")
	geRoot(t, "qmod", "-sq", "low.q@"+second)
	t.Cleanup(func() { geRoot(t, "qmod", "-usq", "low.q@"+second) })
	third := j.awaitRun(3)
	runs := j.awaitEnd(2*time.Minute, migrated+"75", migrated+"75", done)
	j.expect(rounds, "out")
	if first == second || second == third || hostsOf(runs) != first+" "+second+" "+third {
		t.Errorf("ran on %s, %s and %s; the records say %s", first, second, third, hostsOf(runs))
	}
}

// Without a checkpointing environment a warned job asks to be queued again.
func TestGridEngineWarnedJobComesBack(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-notify").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 3", rounds), "-notify", "-q", "batch.q")
	j.awaitRound(8, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	j.awaitEnd(2*time.Minute, again, "0/3")
	j.expect(rounds, "out")
	j.wantRestarted("0 1")
}

// A job that takes longer than it may comes back until it is done.
func TestGridEngineJobLongerThanItsLimit(t *testing.T) {
	t.Parallel()
	const rounds = 40 // 40 s or more, in runs of 30 s at most
	j := geJob(t, "ge-limit").submit(fmt.Sprintf("exec esky-wrap run --margin 8s -- ../count %d 1000 0", rounds),
		"-notify", "-l", "h_rt=30", "-q", "batch.q")
	j.awaitSlices(3*time.Minute, done)
	j.expect(rounds, "out")
}

// At s_rt 8.1.9 warns a job in its first run; in those after a requeue it is killed
// at once ("qmaster enforced h_rt"). The job's own clock is ahead of both.
func TestGridEngineSoftLimit(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-soft").submit(fmt.Sprintf("exec esky-wrap run --margin 6s -- ../count %d 1000 0", rounds), "-l", "s_rt=20", "-q", "batch.q")
	j.awaitRun(3)
	j.awaitSlices(3*time.Minute, done)
	j.expect(rounds, "out")
}

// Where the host may not ask for the limits, the warning at s_rt is what there is.
func TestGridEngineWarningAtTheSoftLimit(t *testing.T) {
	t.Parallel()
	// It sleeps most of the time, so that its two runs last as long on any machine.
	j := geJob(t, "ge-usr1").submit("SGE_ROOT=/nowhere exec esky-wrap run -- ../count 1 25000 0", "-l", "s_rt=15", "-q", "batch.q")
	j.awaitEnd(2*time.Minute, again, done)
	j.expect(1, "out")
	if said := j.read("err"); !strings.Contains(said, "limits are not known") || !strings.Contains(said, "USR1") {
		t.Error("it did not leave for SIGUSR1:", said)
	}
}

// At s_cpu comes SIGXCPU, to all processes of the job; the program lives.
func TestGridEngineLimitOfCPUTime(t *testing.T) {
	t.Parallel()
	const rounds = 800
	j := geJob(t, "ge-xcpu").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 0 0", rounds), "-l", "s_cpu=3", "-q", "batch.q")
	j.awaitSlices(3*time.Minute, done)
	j.expect(rounds, "out")
	if said := j.read("err"); !strings.Contains(said, "XCPU") {
		t.Error("it did not leave for SIGXCPU:", said)
	}
}

// Of the environments of others most kill a job that is suspended, without a word:
// esky says so at the start, and the last image of --every counts.
func TestGridEngineAbruptEnvironment(t *testing.T) {
	t.Parallel()
	const rounds = 40
	j := geJob(t, "ge-abrupt").submit(fmt.Sprintf("exec esky-wrap run --every 2s -- ../count %d 300 0", rounds), "-ckpt", "abrupt", "-q", "batch.q")
	j.awaitImage(2)
	ge(t, "qmod", "-sj", j.id)
	j.awaitEnd(2*time.Minute, migrated+"137", done)
	j.expect(rounds, "out")
	j.wantRestarted("0 1")
	if said := j.read("err"); !strings.Contains(said, "environment abrupt is not esky's") {
		t.Error("nothing was said about it:", said)
	}
}

// A task of an array is a job of its own.
func TestGridEngineArrayTaskMigratesAlone(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-array")
	j.submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0 result.$SGE_TASK_ID", rounds), "-ckpt", "esky", "-q", "batch.q", "-t", "1-3")
	for i := 1; i <= 3; i++ {
		j.awaitRound(5, fmt.Sprintf("result.%d", i))
	}
	ge(t, "qmod", "-sj", j.id+".2")
	for i := 1; i <= 3; i++ {
		j.task = fmt.Sprint(i)
		want := []string{done}
		if i == 2 {
			want = []string{migrated + "75", done}
		}
		j.awaitEnd(2*time.Minute, want...)
		j.expect(rounds, fmt.Sprintf("result.%d", i))
	}
	j.task = ""
}

// Several processes in the slots of one host, as one job.
func TestGridEngineParallelEnvironment(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-smp").submit(fmt.Sprintf(
		"echo $NSLOTS $PE >slots\nexec esky-wrap run -- sh -c 'for i in 1 2 3; do ../count %d 300 0 result.$i & done; wait'", rounds),
		"-ckpt", "esky", "-q", "batch.q", "-pe", "smp", "3")
	for i := 1; i <= 3; i++ {
		j.awaitRound(5, fmt.Sprintf("result.%d", i))
	}
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	runs := j.awaitEnd(2*time.Minute, migrated+"75", done)
	for i := 1; i <= 3; i++ {
		j.expect(rounds, fmt.Sprintf("result.%d", i))
	}
	if r := runs[0]; r["slots"] != "3" || r["granted_pe"] != "smp" {
		t.Errorf("the record has %s slots of %s", r["slots"], r["granted_pe"])
	}
}

// A queue with esky's starter: the whole script is what is saved, or the command
// of a job without a script.
func TestGridEngineStarterWrapsTheScript(t *testing.T) {
	t.Parallel()
	const rounds = 20
	j := geJob(t, "ge-starter").submit(fmt.Sprintf(
		"../count %d 300 0\necho between >>log\n../count %[1]d 300 0 second\necho \"$1 $SGE_TASK_ID\" >>log", rounds),
		"-ckpt", "esky", "-q", "wrapped.q", "-v", "ESKY_STORE=/home/esk/ge-starter/.esky")
	b := geJob(t, "ge-starter-command")
	b.id = strings.TrimSpace(gridengineLab.run(t, "submit", "-terse", "-wd", "/home/esk/"+b.name, "-o", "out", "-e", "err",
		"-ckpt", "esky", "-q", "wrapped.q", "-b", "y", "/home/esk/count", fmt.Sprint(2*rounds), "300", "0"))
	b.awaitRound(5, "out")
	ge(t, "qmod", "-sj", b.id)
	j.awaitRound(5, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitRound(5, "second")
	ge(t, "qmod", "-sj", j.id)
	j.awaitEnd(3*time.Minute, migrated+"75", migrated+"75", done)
	j.expect(rounds, "out")
	j.expect(rounds, "second")
	b.awaitEnd(2*time.Minute, migrated+"75", done)
	b.expect(2*rounds, "out")
	if got := j.read("log"); got != "between\n undefined\n" || len(j.hosts()) != 1 {
		t.Errorf("log %q; the script began %d times", got, len(j.hosts()))
	}
}

// A script with commands after the wrapped one: they must not be run because
// that one was ended.
func TestGridEngineScriptDoesNotGoOn(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-script").submit(fmt.Sprintf("esky-wrap run -- ../count %d 300 0\necho after >>log", rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(8, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	j.awaitEnd(2*time.Minute, migrated+"137", done)
	j.expect(rounds, "out")
	if got := j.read("log"); got != "after\n" {
		t.Errorf("log %q", got)
	}
}

// A job chooses another host for itself and goes there.
func TestGridEngineJobMovesItself(t *testing.T) {
	t.Parallel()
	const rounds = 40
	const move = `other=n1; [ $(hostname) = n1 ] && other=n2
[ $RESTARTED != 0 ] || (sleep 5; qalter -l hostname=$other $JOB_ID; qmod -sj $JOB_ID) >>moved 2>&1 &`
	j := geJob(t, "ge-move").submit(fmt.Sprintf("%s\nexec esky-wrap run -- ../count %d 300 0", move, rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRun(2)
	runs := j.awaitEnd(2*time.Minute, migrated+"75", done)
	j.expect(rounds, "out")
	if h := j.hosts(); h[0] == h[1] || hostsOf(runs) != strings.Join(h, " ") {
		t.Errorf("ran on %v, the records say %s; %s", h, hostsOf(runs), j.read("moved"))
	}
}

// A job that was deleted stays deleted, and its images stay.
func TestGridEngineDeletedJobStaysDeleted(t *testing.T) {
	t.Parallel()
	warned := geJob(t, "ge-delete").submit("exec esky-wrap run -- ../count 400 300 0", "-notify", "-q", "batch.q")
	environment := geJob(t, "ge-delete-ckpt").submit("exec esky-wrap run --every 3s -- ../count 400 300 0", "-ckpt", "esky", "-q", "batch.q")
	warned.awaitRound(5, "out")
	environment.await("an image", time.Minute, func() bool { return len(environment.images()) > 0 })
	ge(t, "qdel", warned.id, environment.id)
	environment.awaitEnd(time.Minute, "100/137")
	warned.awaitEnd(time.Minute, again) // what it asked for did not count
	time.Sleep(4 * time.Second)         // two rounds of the scheduler
	for _, j := range []*gejob{warned, environment} {
		if j.state() != "" || len(j.hosts()) != 1 || len(j.images()) == 0 {
			t.Errorf("%s: state %q, %d runs, images %v", j.name, j.state(), len(j.hosts()), j.images())
		}
	}
}

// A job of 8.1.9 that is suspended while its ckpt_command runs is lost: ours takes
// no time. And one that is warned and saved periodically is never killed by qdel:
// ours ends by itself.
func TestGridEnginePeriodicEnvironment(t *testing.T) {
	t.Parallel()
	const rounds = 60
	j := geJob(t, "ge-period").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0", rounds), "-ckpt", "esky", "-c", "mx", "-q", "batch.q")
	warned := geJob(t, "ge-period-notify").submit("exec esky-wrap run -- ../count 400 300 0", "-ckpt", "esky", "-c", "mx", "-notify", "-q", "batch.q")
	j.awaitImage(1)
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	j.awaitImage(3) // 2 was made for the suspension
	ge(t, "qmod", "-sj", j.id)
	j.awaitEnd(2*time.Minute, migrated+"75", migrated+"75", done)
	j.expect(rounds, "out")
	warned.awaitImage(1)
	ge(t, "qdel", warned.id)
	warned.awaitEnd(time.Minute, again)
}

// A job that cannot be saved is not harmed by its suspension. That Grid Engine
// believes it migrated, and starts it again when it has ended, is not harmful.
func TestGridEngineUnsavableJobRunsOn(t *testing.T) {
	t.Parallel()
	const rounds = 30
	j := geJob(t, "ge-unsavable").submit(fmt.Sprintf("exec esky-wrap run -- unshare -U ../count %d 300 4", rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(5, "out")
	ge(t, "qmod", "-sj", j.id)
	j.await("its suspension", time.Minute, func() bool { return j.state() == "s" })
	j.awaitRound(20, "out")
	ge(t, "qmod", "-usj", j.id)
	j.awaitEnd(2*time.Minute, migrated+"4", "0/4")
	j.expect(rounds, "out")
}

// What is no job of esky's, but was submitted as one, is stopped and continued.
func TestGridEngineForeignJobIsStopped(t *testing.T) {
	t.Parallel()
	const rounds = 20
	j := geJob(t, "ge-foreign").submit(fmt.Sprintf("../count %d 300 0 result", rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(3, "result")
	ge(t, "qmod", "-sj", j.id)
	j.await("its suspension", time.Minute, func() bool { return j.state() == "s" })
	time.Sleep(2 * time.Second)
	before := j.read("result")
	time.Sleep(2 * time.Second)
	if now := j.read("result"); now != before {
		t.Error("it runs on")
	}
	ge(t, "qmod", "-usj", j.id)
	j.await("its last round", time.Minute, func() bool { return strings.Contains(j.read("result"), fmt.Sprintf("round %d ", rounds)) })
	_ = os.Remove(filepath.Join(j.dir, "result"))
}

// A job that no host can resume is kept in the error state, where its user sees
// it, and does not go round for ever.
func TestGridEngineHopelessJobIsHeld(t *testing.T) {
	t.Parallel()
	j := geJob(t, "ge-hopeless")
	program := filepath.Join(j.dir, "count")
	install := func(src string) {
		if out, err := exec.Command("cp", "--remove-destination", src, program).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	install(filepath.Join(j.home, "count"))
	j.submit("exec esky-wrap run -- ./count 200 300 0", "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(5, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitImage(1)
	install("/bin/true") // nothing can resume an image without its program
	j.await("the error state", 3*time.Minute, func() bool { return strings.HasPrefix(j.state(), "E") })
	if h := j.hosts(); len(h) != 3 || h[1] == h[2] { // each host once, after the first run
		t.Errorf("ran on %v before it was held", h)
	}
	if len(j.images()) == 0 || !strings.Contains(j.read("err"), "qmod -cj") {
		t.Errorf("images %v", j.images())
	}
}
