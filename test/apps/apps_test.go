// SPDX-License-Identifier: Apache-2.0

// Package apps takes programs that people install, as Debian packages them,
// away in the middle and brings them back: what they come to must be, byte for
// byte, what they come to when nobody disturbs them.
//
// A program has a directory below programs: an executable "run", which is the
// job, an executable "setup" if it needs input that it would be a waste to
// store, and whatever else these two use. What run writes to its standard
// output is what is compared, so it must say nothing there that depends on the
// time of day or on who was faster.
package apps

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) {
	harness.Patience = 5 * time.Minute
	harness.Main(m)
}

// mpi lets one MPI run at a time: all of them listen at the same few ports.
var mpi sync.Mutex

// TestPrograms disturbs each program at random moments: four checkpoints while
// it runs on, two that end it, and once everything is killed, unless the row
// says why it would not survive that. Without
// ESKY_TEST=all only those that are quick are run.
func TestPrograms(t *testing.T) {
	table := harness.NewTable(t, "program", "live", "stopped", "crashed", "pause", "result")
	doc := newDoc(t)
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := &result{outcome: leftOut}
			t.Cleanup(func() {
				if t.Failed() {
					r.outcome = failed
				}
				r.show(table, doc, p)
			})
			if !p.quick && !harness.All() {
				t.Skipf("%s takes long: it is run with ESKY_TEST=all", p.name)
			}
			harness.Programs(t, p.needs, p.packages)
			slots <- struct{}{}
			defer func() { <-slots }()
			if strings.Contains(p.uses, "ranks") {
				mpi.Lock()
				defer mpi.Unlock()
			}
			p.test(t, r)
		})
	}
}

// A result is what a row of the matrix tells.
type result struct {
	live, stopped, crashed int
	pause                  time.Duration // the longest
	outcome                string
}

func (p program) test(t *testing.T, r *result) {
	want, took := p.undisturbed(t)
	r.outcome = "same"
	// On a busy machine the undisturbed run may have taken too long to tell.
	rng := harness.Rand(t)
	for ; !p.disturb(t, rng, r, want, took); took /= 2 {
		if took < time.Second {
			t.Fatal("it ends too soon to be disturbed")
		}
		*r = result{outcome: r.outcome}
	}
}

// job is the program in a directory of its own with all that it needs.
func (p program) job(t *testing.T) *harness.Job {
	t.Helper()
	j := harness.NewJob(t, "./run")
	from := filepath.Join(harness.Root(), "test/apps/programs", p.name)
	harness.WriteProgram(t, func() error { return os.CopyFS(j.Dir, os.DirFS(from)) })
	if p.shares != "" {
		harness.CopyProgram(t, filepath.Join(filepath.Dir(from), p.shares), j.Path(p.shares))
	}
	if p.build != nil {
		p.build(t, j.Path("program"))
	}
	err := filepath.WalkDir(j.Dir, func(path string, _ os.DirEntry, err error) error {
		harness.Give(t, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.Path("setup")); err == nil {
		if o := j.Command("./setup"); o.Status != 0 {
			t.Fatalf("setup: %s", o)
		}
	}
	return j
}

// buildGo builds a Go program of this module.
func buildGo(dir string) func(t *testing.T, to string) {
	return func(t *testing.T, to string) {
		t.Helper()
		build := exec.Command("go", "build", "-buildvcs=false", "-o", to, "./test/apps/programs/"+dir)
		build.Dir = harness.Root()
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// undisturbed is what the program puts out without esky, and how long it takes.
func (p program) undisturbed(t *testing.T) (string, time.Duration) {
	t.Helper()
	j := p.job(t)
	begin := time.Now()
	r := j.StartBare()
	if status := r.Wait(); status != 0 {
		t.Fatalf("status %d of the program without esky\n%s%s", status, j.Read("stdout"), r.Stderr())
	}
	took := time.Since(begin)
	t.Logf("undisturbed it takes %s", took.Round(10*time.Millisecond))
	out := j.Read("stdout")
	if out == "" {
		t.Fatal("the program put nothing out")
	}
	return out, took
}

// disturb runs the job and disturbs it at random moments, the last of which is
// well before it ends: took is what it takes when nobody does. It says no when
// the job has ended before that.
func (p program) disturb(t *testing.T, rng *rand.Rand, r *result, want string, took time.Duration) bool {
	t.Helper()
	kinds := []string{"live", "live", "stop", "stop", "live"}
	if p.crash == "" {
		kinds = append(kinds, "crash")
	}
	rng.Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
	kinds = append([]string{"live"}, kinds...) // a crash must have something to go back to
	j := p.job(t)
	run := j.Start()
	last, early := 0.0, false
	for i, at := range moments(rng, len(kinds)) {
		time.Sleep(time.Duration((at - last) * float64(took)))
		last = at
		if run, early = r.do(t, j, run, kinds[i]); early {
			t.Logf("it ended before %q", kinds[i:])
			break
		}
	}
	run.WaitFor(0)
	same(t, j, want)
	return !early
}

func same(t *testing.T, j *harness.Job, want string) {
	t.Helper()
	if got := j.Read("stdout"); got != want {
		t.Fatalf("its output differs from that of an undisturbed run: %s", difference(got, want))
	}
}

// moments are n moments in order, as fractions of the undisturbed time.
func moments(rng *rand.Rand, n int) []float64 {
	m := make([]float64, n)
	for i := range m {
		m[i] = 0.08 + 0.57*(float64(i)+rng.Float64())/float64(n)
	}
	return m
}

// do disturbs the job once. The job runs, or is about to, when it returns, unless
// it had ended before.
func (r *result) do(t *testing.T, j *harness.Job, run *harness.Run, kind string) (now *harness.Run, ended bool) {
	t.Helper()
	if run.Ended() {
		return run, true
	}
	switch kind {
	case "live":
		ended = r.checkpoint(t, j, run)
		r.live++
		return run, ended
	case "stop":
		if r.checkpoint(t, j, run, "--stop") {
			return run, true
		}
		run.WaitFor(harness.ExitAgain)
		r.stopped++
	case "crash":
		run.Crash()
		r.crashed++
	}
	return j.Start(), false
}

// checkpoint makes a checkpoint, and says whether the job ended just before.
func (r *result) checkpoint(t *testing.T, j *harness.Job, run *harness.Run, flags ...string) (ended bool) {
	t.Helper()
	o := j.TryCheckpoint(append(flags, "--json")...)
	for end := time.Now().Add(time.Second); o.Status != 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if run.Ended() {
			return true
		}
	}
	if o.Status != 0 {
		t.Fatalf("esky-wrap checkpoint: %s", o)
	}
	var s struct {
		Pause time.Duration `json:"pause_ns"`
	}
	if err := json.Unmarshal([]byte(o.Stdout), &s); err != nil {
		t.Fatalf("esky-wrap checkpoint --json: %v: %s", err, o)
	}
	r.pause = max(r.pause, s.Pause)
	return false
}

// difference names the first line that differs.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is %q, want %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
