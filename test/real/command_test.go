// SPDX-License-Identifier: Apache-2.0

package real

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// compute is a job of so many lines, and what it puts out undisturbed.
func compute(t *testing.T, lines int) (*harness.Job, map[string]string) {
	t.Helper()
	j := harness.NewJob(t, append(c("gcc", "compute.c")(t, harness.Dir(t)), fmt.Sprint(lines))...)
	return j, undisturbed(t, program{files: []string{"out"}}, j)
}

func lines(j *harness.Job) int { return strings.Count(j.Read("stdout"), "\n") }

func until(r *harness.Run, j *harness.Job, n int) {
	r.Until(fmt.Sprintf("line %d", n), func() bool { return lines(j) >= n })
}

// TestSignal sends the signals that mean "leave" to the monitor, as kill and
// batch systems do.
func TestSignal(t *testing.T) {
	j, want := compute(t, 120)
	r := j.Start()
	for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		until(r, j, 30*(i+1))
		if err := syscall.Kill(r.Pid(), s); err != nil {
			t.Fatal(err)
		}
		r.WaitFor(harness.ExitAgain)
		r = j.Start()
	}
	r.WaitFor(0)
	compare(t, j, want)
}

// TestCompression saves and resumes with each way of compressing.
func TestCompression(t *testing.T) {
	for _, codec := range []string{"none", "s2", "zstd", "zstd:7"} {
		t.Run(codec, func(t *testing.T) {
			j, want := compute(t, 60)
			j.Flags = []string{"--compress", codec}
			r := j.Start()
			until(r, j, 15)
			j.Checkpoint("--stop")
			r.WaitFor(harness.ExitAgain)
			j.Start().WaitFor(0)
			compare(t, j, want)
		})
	}
}

// TestEvery lets esky make checkpoints by itself, and keeps only so many.
func TestEvery(t *testing.T) {
	j, want := compute(t, 250)
	j.Flags = []string{"--every", "200ms", "--keep", "3"}
	r := j.Start()
	most := 0
	r.Until("five checkpoints were made", func() bool {
		g := j.Generations()
		most = max(most, len(g))
		return len(g) > 0 && filepath.Base(g[len(g)-1]) >= "gen-000005"
	})
	if most > 4 { // one more while the next is being published
		t.Errorf("%d images at once, want 3", most)
	}
	r.Crash()
	j.Start().WaitFor(0)
	compare(t, j, want)
}

// TestStatus is what becomes of the exit status of programs.
func TestStatus(t *testing.T) {
	for name, want := range map[string]int{"exit 0": 0, "exit 3": 3, "exit 75": 75, "kill -SEGV $$": 139, "kill -KILL $$": 137} {
		j := harness.NewJob(t, "/bin/sh", "-c", name)
		r := j.Start()
		if got := r.Wait(); got != want {
			t.Errorf("%s: status %d, want %d; esky said: %s", name, got, want, r.Stderr())
		}
	}
	j := harness.NewJob(t, "/no/such/program")
	j.Start().WaitFor(127)
	j = harness.NewJob(t, "/etc/passwd")
	j.Start().WaitFor(126)
}

// TestDone runs the line of a job that has ended once more: it gets the same
// status, and nothing runs twice.
func TestDone(t *testing.T) {
	j := harness.NewJob(t, "/bin/sh", "-c", "echo once; exit 5")
	for range 2 {
		j.Start().WaitFor(5)
	}
	if got := j.Read("stdout"); got != "once\n" {
		t.Errorf("output %q, want it once", got)
	}
	if g := j.Generations(); len(g) != 0 {
		t.Errorf("images of a job that has ended: %v", g)
	}
	j.Flags = []string{"--fresh"}
	j.Start().WaitFor(5)
	if got := j.Read("stdout"); got != "once\nonce\n" {
		t.Errorf("output with --fresh %q, want it twice", got)
	}
}

// TestGeneration goes back to an older image on purpose.
func TestGeneration(t *testing.T) {
	j, want := compute(t, 150)
	r := j.Start()
	until(r, j, 30)
	j.Checkpoint()
	until(r, j, 60)
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	before := lines(j)
	r = j.Resume("--generation", "1")
	r.Until("the output is cut back", func() bool { return lines(j) < before })
	r.WaitFor(0)
	compare(t, j, want)
}

// TestFiles is a file that the job writes and that grew after the checkpoint:
// cut back, and what was cut off is kept.
func TestFiles(t *testing.T) {
	j, want := compute(t, 150)
	r := j.Start()
	until(r, j, 30)
	j.Checkpoint()
	until(r, j, 80)
	r.Crash()
	lost := j.Read("out")
	r = j.Start()
	r.WaitFor(0)
	compare(t, j, want)
	if !kept(t, j, lost[len(lost)-40:]) {
		t.Errorf("what was cut off is nowhere below %s; esky said:\n%s", j.Store, r.Stderr())
	}
	if !strings.Contains(r.Stderr(), j.Path("out")) {
		t.Errorf("esky did not report what it cut back; it said:\n%s", r.Stderr())
	}
}

func kept(t *testing.T, j *harness.Job, text string) bool {
	t.Helper()
	found := false
	err := filepath.Walk(j.Store, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || strings.Contains(string(data), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestAsk asks the commands that look at a job, while it runs and afterwards.
func TestAsk(t *testing.T) {
	j, _ := compute(t, 200)
	r := j.Start()
	until(r, j, 20)
	j.Checkpoint()
	ask(t, j, "a running job")
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	ask(t, j, "a saved job")
	if o := j.Command(harness.Wrap(), "status", "--store", j.Store, "nobody"); o.Status != harness.ExitNoImage {
		t.Errorf("status of a job that is not there: %s", o)
	}
	if o := j.Command(harness.Wrap(), "run", "--every", "now"); o.Status != harness.ExitUsage {
		t.Errorf("wrong usage: %s", o)
	}
}

func ask(t *testing.T, j *harness.Job, what string) {
	t.Helper()
	for _, verb := range []string{"status", "show", "verify", "match"} {
		if o := j.Esky(verb); o.Status != 0 || strings.TrimSpace(o.Stdout) == "" {
			t.Errorf("%s of %s: %s", verb, what, o)
		}
		if o := j.Esky(verb, "--json"); o.Status != 0 || !json.Valid([]byte(o.Stdout)) {
			t.Errorf("%s --json of %s: %s", verb, what, o)
		}
	}
	o := j.Command(harness.Wrap(), "list", "--store", j.Store)
	if o.Status != 0 || !strings.Contains(o.Stdout, j.Name) {
		t.Errorf("list: %s", o)
	}
}

// TestClock is the job's monotonic clock: the time it was away must not show.
func TestClock(t *testing.T) {
	harness.Need(t, "/usr/bin/perl", "perl")
	j := harness.NewJob(t, "/usr/bin/perl", "-MTime::HiRes=clock_gettime,CLOCK_MONOTONIC,sleep", "-e", `
		$| = 1; my $last = clock_gettime(CLOCK_MONOTONIC); my $most = 0; print "begin\n";
		until (-e "finish") { sleep 0.01; my $t = clock_gettime(CLOCK_MONOTONIC);
			die "backwards" if $t < $last; $most = $t - $last if $t - $last > $most; $last = $t; }
		printf "longest step %s\n", $most < 1.0 ? "short" : $most;`)
	r := j.Start()
	until(r, j, 1)
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	time.Sleep(1500 * time.Millisecond)
	r = j.Start()
	j.Checkpoint() // it runs again
	j.Write("finish", "")
	r.WaitFor(0)
	if got := j.Read("stdout"); got != "begin\nlongest step short\n" {
		t.Errorf("the time away shows: %q", got)
	}
}
