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
	"regexp"
	"runtime"
	"slices"
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
// it runs on, two that end it, and once everything is killed. Without
// ESKY_TEST=all only those that are quick are run.
func TestPrograms(t *testing.T) {
	each(t, inNamespaces, func(p program) bool { return p.quick })
}

// shimSample are the programs that every run drives without namespaces, too.
var shimSample = []string{"dash", "python-subprocess", "shell"}

// TestShimMode is TestPrograms without namespaces, where a resumed program has other
// process numbers and the host's clocks. What is refused there is told so and runs on.
func TestShimMode(t *testing.T) {
	each(t, inShimMode, func(p program) bool { return slices.Contains(shimSample, p.name) })
}

// A mode is how jobs are run: with namespaces or without.
type mode struct {
	title string
	flags []string
}

var (
	inNamespaces = mode{title: "program"}
	inShimMode   = mode{title: "without namespaces", flags: words("--mode shim")}
)

// again starts the job once more. Without namespaces somebody else may have a number
// that a program needs.
func (m mode) again(j *harness.Job) *harness.Run {
	if m.flags != nil {
		return j.StartAgain()
	}
	return j.Start()
}

// each tests the programs that are always tested, or all of them.
func each(t *testing.T, m mode, always func(program) bool) {
	table := harness.NewTable(t, m.title, "live", "stopped", "crashed", "pause", "result")
	doc := newDoc(t)
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			r := &result{mode: m, outcome: leftOut}
			t.Cleanup(func() {
				if t.Failed() {
					r.outcome = failed
				}
				r.show(table, doc, p)
			})
			if !always(p) && !harness.All() {
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
	mode                   mode
	live, stopped, crashed int
	pause                  time.Duration // the longest
	outcome                string
}

func (p program) test(t *testing.T, r *result) {
	want, took := p.undisturbed(t)
	if p.shim != "" && r.mode.flags != nil {
		r.outcome = p.refused(t, r, want, took)
		return
	}
	r.outcome = "same"
	// On a busy machine the undisturbed run may have taken too long to tell.
	rng := harness.Rand(t)
	for ; !p.disturb(t, rng, r, want, took); took /= 2 {
		if took < time.Second {
			t.Fatal("it ends too soon to be disturbed")
		}
		*r = result{mode: r.mode, outcome: r.outcome}
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
	if p.scratch != "" {
		j.Env = append(j.Env, "ESKY_SCRATCH="+j.Path(p.scratch))
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

// references are what the programs put out undisturbed, and how long they take.
var references sync.Map

type reference struct {
	out  string
	took time.Duration
}

// undisturbed is what the program puts out without esky, and how long it takes. It
// is run once.
func (p program) undisturbed(t *testing.T) (string, time.Duration) {
	t.Helper()
	if r, known := references.Load(p.name); known {
		return r.(reference).out, r.(reference).took
	}
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
	references.Store(p.name, reference{out, took})
	return out, took
}

// disturb runs the job and disturbs it at random moments, the last of which is
// well before it ends: took is what it takes when nobody does. It says no when
// the job has ended before that.
func (p program) disturb(t *testing.T, rng *rand.Rand, r *result, want string, took time.Duration) bool {
	t.Helper()
	kinds := []string{"live", "live", "stop", "stop", "live", "crash"}
	rng.Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
	kinds = append([]string{"live"}, kinds...) // a crash must have something to go back to
	j := p.job(t)
	j.Flags = r.mode.flags
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

// refused checks that no checkpoint can be made of the program, which runs on, and
// returns the first thing that was said of it.
func (p program) refused(t *testing.T, r *result, want string, took time.Duration) string {
	t.Helper()
	j := p.job(t)
	j.Flags = r.mode.flags
	run := j.Start()
	said := ""
	for said == "" { // it has not begun yet with what is refused
		time.Sleep(took / 20)
		if run.Ended() {
			t.Fatalf("it was not refused: %s", p.shim)
		}
		if o := j.TryCheckpoint(); o.Status == harness.ExitHost && strings.Contains(o.Stderr, p.shim) {
			said = strings.TrimSpace(o.Stderr)
		}
	}
	run.WaitFor(0)
	same(t, j, want)
	said, _, _ = strings.Cut(strings.TrimPrefix(said, "esky-wrap: cannot be checkpointed: "), "; ")
	return "refused: “" + pid.ReplaceAllString(said, "pid N") + "”"
}

var pid = regexp.MustCompile(`pid \d+`)

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
	return r.mode.again(j), false
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
