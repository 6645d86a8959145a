// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Each host says what it is, and a job that runs there asks for the same: once it
// is taken away it starts again on such a host only.
func TestGridEngineHostLabel(t *testing.T) {
	t.Parallel()
	j := geJob(t, "ge-label")
	label := "esky_host=" + strings.TrimSpace(gridengineLab.run(t, "exec", "n1", "/opt/esky/bin/esky-wrap", "host-label"))
	j.await("hosts with labels", time.Minute, func() bool {
		return strings.Count(ge(t, "qhost", "-F", "esky_host"), label) == 3
	})
	const rounds = 60
	j.submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0", rounds), "-ckpt", "esky", "-q", "batch.q", "-l", "h_rt=600")
	j.awaitRound(3, "out")
	j.await("its wish", time.Minute, func() bool {
		shown := ge(t, "qstat", "-j", j.id)
		return strings.Contains(shown, label) && strings.Contains(shown, "h_rt=600")
	})
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	runs := j.awaitEnd(2*time.Minute, migrated+"75", done)
	j.expect(rounds, "out")
	if got := runs[1]["category"]; !strings.Contains(got, label) {
		t.Errorf("the second run was asked for with %q", got)
	}
}

// A host that cannot resume the image is excluded, and the job goes on on one that
// can: here only one host has the program left.
func TestGridEngineWrongHostIsExcluded(t *testing.T) {
	t.Parallel()
	const rounds = 40
	program := onBothHosts(t, "ge-wrong")
	j := geJob(t, "ge-wrong").submit(fmt.Sprintf("exec esky-wrap run -- %s %d 300 0", program, rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(5, "out")
	right := j.awaitRun(1)
	wrong := map[string]string{"n1": "n2", "n2": "n1"}[right]
	geRootOn(t, wrong, "rm", program)
	ge(t, "qalter", "-soft", "-l", "hostname="+wrong, j.id)
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(3)
	j.await("what it has asked for", time.Minute, func() bool {
		shown := ge(t, "qstat", "-j", j.id)
		return strings.Contains(shown, "hostname=!"+wrong) && !strings.Contains(shown, "esky_wrong_hosts")
	})
	runs := j.awaitEnd(2*time.Minute, migrated+"75", again, done)
	j.expect(rounds, "out")
	if got := hostsOf(runs); got != right+" "+wrong+" "+right {
		t.Errorf("ran on %s", got)
	}
}

// Tasks of an array share one list of requests: what a task has asked for to get
// away is taken back when it runs again, and the others may go there.
func TestGridEngineWrongHostOfATask(t *testing.T) {
	t.Parallel()
	const rounds = 100
	program := [...]string{1: onBothHosts(t, "ge-task.1"), 2: onBothHosts(t, "ge-task.2")}[2]
	j := geJob(t, "ge-wrong-task")
	j.submit(fmt.Sprintf("exec esky-wrap run -- %s$SGE_TASK_ID %d 300 0 result.$SGE_TASK_ID", strings.TrimSuffix(program, "2"), rounds),
		"-ckpt", "esky", "-q", "batch.q", "-t", "1-2", "-soft", "-l", "hostname=n1")
	for i := 1; i <= 2; i++ {
		j.awaitRound(5, fmt.Sprintf("result.%d", i))
	}
	geRootOn(t, "n2", "rm", program)
	ge(t, "qalter", "-soft", "-l", "hostname=n2", j.id)
	ge(t, "qmod", "-sj", j.id+".2")
	j.awaitRun(4)
	j.await("an open list of requests", time.Minute, func() bool { return !strings.Contains(ge(t, "qstat", "-j", j.id), "hostname=!") })
	ge(t, "qmod", "-sj", j.id+".1")
	j.awaitRun(5)
	for task, want := range map[string][]string{"1": {"n1 n2", migrated + "75", done}, "2": {"n1 n2 n1", migrated + "75", again, done}} {
		j.task = task
		if got := hostsOf(j.awaitEnd(2*time.Minute, want[1:]...)); got != want[0] {
			t.Errorf("task %s ran on %s", task, got)
		}
		j.expect(rounds, "result."+task)
	}
	j.task = ""
}

// onBothHosts puts the program on disks of n1 and n2 themselves.
func onBothHosts(t *testing.T, name string) string {
	t.Helper()
	gridengineLab.need(t)
	path := "/var/local/esky/" + name
	for _, host := range []string{"n1", "n2"} {
		geRootOn(t, host, "install", "-D", "-m", "755", "/home/esk/count", path)
	}
	return path
}

// A host that dies takes no farewell: the last periodic image counts.
func TestGridEngineHostFails(t *testing.T) {
	t.Parallel()
	const rounds = 60
	j := geJob(t, "ge-fails").submit(fmt.Sprintf("exec esky-wrap run --every 3s -- ../count %d 500 0", rounds),
		"-ckpt", "esky", "-q", "spare.q", "-r", "y", "-soft", "-l", "hostname=n3")
	j.awaitRound(14, "out")
	gridengineLab.run(t, "kill", "n3") // no other test's jobs run there
	t.Cleanup(func() { gridengineLab.run(t, "restart", "n3") })
	j.awaitRun(2)
	j.awaitEnd(3*time.Minute, "25/0", done)
	j.expect(rounds, "out")
	if h := j.hosts(); len(h) != 2 || h[0] != "n3" || h[1] != "n1" {
		t.Errorf("ran on %v", h)
	}
	j.wantRestarted("0 1")
}
