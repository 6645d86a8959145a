// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// background makes a checkpoint that nobody waits for yet.
func (g *gate) background(flags ...string) <-chan harness.Outcome {
	done := make(chan harness.Outcome, 1)
	go func() { done <- g.Esky("checkpoint", flags...) }()
	return done
}

// writing waits until an image is being written, with some pages there.
func (g *gate) writing(r *harness.Run) {
	g.t.Helper()
	r.Until("pages are being written", func() bool {
		names, _ := filepath.Glob(filepath.Join(g.Store, g.Name, ".pending*", "pages.img"))
		for _, n := range names {
			if info, err := os.Stat(n); err == nil && info.Size() > 1<<20 {
				return true
			}
		}
		return false
	})
}

// TestMonitorKilledInDump kills the monitor, and nothing else, while an image
// is being written. The job must not notice, the image before must still be
// good, and the same line must take the job over.
func TestMonitorKilledInDump(t *testing.T) {
	g := newGate(t, 384)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	good := g.Generations()[0]
	g.advance(r)
	asked := g.background()
	g.writing(r)
	r.Kill9()
	if o := <-asked; o.Status == 0 {
		t.Skip("the image was published before the monitor was killed: nothing was tested")
	}
	if o := g.Command(harness.Wrap(), "verify", "--store", g.Store, g.Name); o.Status != 0 {
		t.Errorf("the image before is no longer good: %s", o)
	}
	if _, err := os.Stat(good); err != nil {
		t.Error(err)
	}
	if len(g.processes()) != 1 {
		t.Fatal("the job did not survive its monitor")
	}
	r = g.Start()
	g.advance(r) // the job, not a copy of it: it knows all steps
	g.Checkpoint()
	g.advance(r)
	if n := len(g.processes()); n != 1 {
		t.Errorf("%d processes of the job", n)
	}
	g.finish(r, g.step)
}

// TestInitKilled kills the job's init, and so all of the job, as one may who clears
// up on a host. That is no result of the program: the monitor resumes it.
func TestInitKilled(t *testing.T) {
	g := newGate(t, 1)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	step := g.step
	g.advance(r)
	g.shut()
	for _, p := range harness.Tree(r.Pid()) {
		if strings.HasPrefix(p.Line, "esky-init") {
			_ = syscall.Kill(p.Pid, syscall.SIGKILL)
		}
	}
	r.Until("it is resumed", func() bool { return strings.Contains(r.Stderr(), "it is resumed from its last image") })
	g.finish(r, step)
}

// processes are the processes that run the job's program.
func (g *gate) processes() []harness.Proc {
	var found []harness.Proc
	for _, p := range harness.Of(g.Dir) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Pid))
		if exe == g.program && !strings.Contains(p.State, "Z") {
			found = append(found, p)
		}
	}
	return found
}

// tracer is the pid of the process that traces pid at this moment, 0 if none.
func tracer(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "TracerPid:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// TestWorkerKilledInPause kills the process that holds the job in its pause, a
// little later each time. A job that was let go before is unharmed. One that
// was not must end: changed half-way it must never run on. It comes back from
// the image before, and esky says so.
func TestWorkerKilledInPause(t *testing.T) {
	lost, hits := 0, 0
	const times, tries = 8, 40
	for range tries { // on a busy machine a pause may be over before it is seen
		hit, gone := killInPause(t, time.Duration(hits)*700*time.Microsecond)
		if gone {
			lost++
		}
		if hit {
			hits++
		}
		if hits == times {
			break
		}
	}
	t.Logf("worker killed in %d pauses: %d times the job was lost and came back", hits, lost)
	if lost == 0 {
		t.Error("the pause was never hit")
	}
}

func killInPause(t *testing.T, delay time.Duration) (hit, lost bool) {
	t.Helper()
	g := newGate(t, 64)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	g.advance(r)
	g.shut()
	job := g.processes()
	if len(job) != 1 {
		t.Fatalf("the job has %d processes", len(job))
	}
	asked := g.background()
	worker := awaitTracer(job[0].Pid, asked)
	if worker == 0 {
		g.finish(r, g.step)
		return false, false
	}
	time.Sleep(delay)
	must(t, syscall.Kill(worker, syscall.SIGKILL))
	o := <-asked
	g.Write("finish", "")
	status := r.Wait()
	said := r.Stderr() + o.Stderr
	if status != finished { // the monitor left it to the next incarnation
		again := g.Start()
		status = again.Wait()
		said += again.Stderr()
	}
	if status != finished {
		t.Fatalf("status %d, want %d; esky said:\n%s", status, finished, said)
	}
	if g.Read("stdout") == g.undisturbed(2) {
		return true, false
	}
	g.result(1)
	says(t, said, "tracer died", "resumed job from checkpoint 1")
	return true, true
}

// awaitTracer waits until somebody traces pid and returns who, or 0 if the
// checkpoint was over before it was seen. It does not rest: a pause lasts a few
// milliseconds.
func awaitTracer(pid int, asked <-chan harness.Outcome) int {
	for {
		if who := tracer(pid); who != 0 {
			return who
		}
		select {
		case <-asked:
			return 0
		default:
		}
	}
}
