// SPDX-License-Identifier: Apache-2.0

// Package real takes programs as people run them away in the middle and brings
// them back: what they put out must be, byte for byte, what they put out when
// nobody disturbs them.
package real

import (
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// A program is one row: how to build it into dir, how many lines of progress
// it writes to standard output, and what else it leaves.
type program struct {
	name  string
	argv  func(t *testing.T, dir string) []string
	lines int
	env   []string
	files []string
	after func(t *testing.T, out string) // further claims about the output
}

func programs() []program {
	return []program{
		{name: "python-numpy", argv: numpy, lines: 80, files: []string{"out"}, after: busyThreads,
			env: []string{"OPENBLAS_NUM_THREADS=4"}},
		{name: "go", argv: goProgram, lines: 450},
		{name: "openmp", argv: c("gcc", "openmp.c", "-fopenmp"), lines: 700, env: []string{"OMP_NUM_THREADS=4"}},
		{name: "pthreads-blocked", argv: c("gcc", "blocked.c", "-pthread"), lines: 200},
		{name: "bash-pipeline", argv: script("/bin/bash", "pipeline.sh"), lines: 400, files: []string{"out"}},
		{name: "perl", argv: script("/usr/bin/perl", "job.pl"), lines: 300, files: []string{"out"}},
		{name: "c", argv: c("gcc", "compute.c"), lines: 300, files: []string{"out"}},
		{name: "c-static", argv: c("gcc", "compute.c", "-static"), lines: 300, files: []string{"out"}},
		{name: "musl", argv: c("musl-gcc", "compute.c"), lines: 300, files: []string{"out"}},
		{name: "musl-static", argv: c("musl-gcc", "compute.c", "-static"), lines: 300, files: []string{"out"}},
	}
}

func source(name string) string { return filepath.Join(harness.Root(), "test/real/programs", name) }

func c(cc, file string, flags ...string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		return []string{harness.Compile(t, filepath.Join(dir, "program"), source(file), cc, flags...)}
	}
}

// script copies a script into dir: the checkout may be out of the user's reach.
func script(interpreter, file string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		harness.Need(t, interpreter, filepath.Base(interpreter))
		data, err := os.ReadFile(source(file))
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, file)
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{interpreter, copied}
	}
}

func numpy(t *testing.T, dir string) []string {
	if exec.Command("/usr/bin/python3", "-c", "import numpy").Run() != nil {
		t.Skip("no numpy for /usr/bin/python3: install python3-numpy")
	}
	return script("/usr/bin/python3", "numpy_job.py")(t, dir)
}

func busyThreads(t *testing.T, out string) {
	if strings.HasPrefix(out, "threads 1\n") && runtime.NumCPU() > 1 {
		t.Skip("it came through, but with one thread: its BLAS knows no more; install libopenblas0-pthread")
	}
}

func goProgram(t *testing.T, dir string) []string {
	bin := filepath.Join(dir, "program")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./test/real/programs/gojob")
	build.Dir = harness.Root()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return []string{bin}
}

// TestMoments disturbs each program at random moments: three checkpoints while
// it runs on, three that end it, and once the host dies.
func TestMoments(t *testing.T) {
	table := harness.NewTable(t, "moments", "live", "stopped", "crashed", "longest", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		rng := harness.Rand(t)
		kinds := []string{"live", "live", "stop", "stop", "stop", "crash"}
		rng.Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
		kinds = append([]string{"live"}, kinds...) // a crash must have something to go back to
		disturb(t, p, j, rng, kinds, table)
	})
}

// TestCycles takes each program away and brings it back ten times in a row.
func TestCycles(t *testing.T) {
	table := harness.NewTable(t, "cycles", "live", "stopped", "crashed", "longest", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		disturb(t, p, j, harness.Rand(t), slices.Repeat([]string{"stop"}, 10), table)
	})
}

func each(t *testing.T, table *harness.Table, test func(*testing.T, program, *harness.Job)) {
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	for _, p := range programs() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			table.Set(p.name, "result", "left out")
			argv := append(p.argv(t, harness.Dir(t)), fmt.Sprint(p.lines))
			table.Set(p.name, "result", "FAILED")
			j := harness.NewJob(t, argv...)
			j.Env = p.env
			test(t, p, j)
			table.Set(p.name, "result", "same")
			if p.after != nil {
				p.after(t, j.Read("stdout"))
			}
		})
	}
}

// disturb runs the job with one disturbance of each kind, in that order, at
// random moments of its progress, and compares what came out with an
// undisturbed run.
func disturb(t *testing.T, p program, j *harness.Job, rng *rand.Rand, kinds []string, table *harness.Table) {
	t.Helper()
	want := undisturbed(t, p, j)
	r := j.Start()
	count := map[string]int{}
	var longest time.Duration
	for i, at := range moments(rng, len(kinds)) {
		r.Until(fmt.Sprintf("line %d", int(at*float64(p.lines))), func() bool {
			return strings.Count(j.Read("stdout"), "\n") >= int(at*float64(p.lines))
		})
		time.Sleep(time.Duration(rng.Intn(10_000)) * time.Microsecond)
		var took time.Duration
		r, took = do(t, j, r, kinds[i])
		longest = max(longest, took)
		count[kinds[i]]++
	}
	r.WaitFor(0)
	compare(t, j, want)
	row(table, p.name, count, longest)
}

func row(table *harness.Table, name string, count map[string]int, longest time.Duration) {
	table.Set(name, "live", fmt.Sprint(count["live"]))
	table.Set(name, "stopped", fmt.Sprint(count["stop"]))
	table.Set(name, "crashed", fmt.Sprint(count["crash"]))
	table.Set(name, "longest", longest.Round(time.Millisecond).String())
}

func again(j *harness.Job) *harness.Run {
	if slices.Contains(j.Flags, "shim") {
		return j.StartAgain()
	}
	return j.Start()
}

// do disturbs the job once. The job runs when it returns.
func do(t *testing.T, j *harness.Job, r *harness.Run, kind string) (*harness.Run, time.Duration) {
	t.Helper()
	switch kind {
	case "live":
		return r, j.Checkpoint().Took
	case "stop":
		took := j.Checkpoint("--stop").Took
		r.WaitFor(harness.ExitAgain)
		return again(j), took
	case "crash":
		r.Crash()
		return again(j), 0
	}
	t.Fatalf("no disturbance %q", kind)
	return nil, 0
}

// moments are n moments in order, as fractions of the job's progress.
func moments(rng *rand.Rand, n int) []float64 {
	m := make([]float64, n)
	for i := range m {
		m[i] = 0.02 + 0.83*(float64(i)+rng.Float64())/float64(n)
	}
	return m
}

// references are what the programs leave behind, by their names and the number
// of lines: each is run once, since what it prints depends on nothing else.
var references sync.Map

// undisturbed is what the program leaves behind without esky, with esky's own
// process around it left out too.
func undisturbed(t *testing.T, p program, j *harness.Job) map[string]string {
	t.Helper()
	key := p.name + " " + j.Argv[len(j.Argv)-1]
	if want, known := references.Load(key); known {
		return want.(map[string]string)
	}
	if status := j.Bare(); status != 0 {
		t.Fatalf("status %d of the program without esky\n%s", status, j.Read("stdout"))
	}
	want := map[string]string{}
	for _, f := range append([]string{"stdout"}, p.files...) {
		want[f] = j.Read(f)
		if want[f] == "" {
			t.Fatalf("the program left no %s", f)
		}
		if err := os.Remove(j.Path(f)); err != nil {
			t.Fatal(err)
		}
	}
	references.Store(key, want)
	return want
}

func compare(t *testing.T, j *harness.Job, want map[string]string) {
	t.Helper()
	for f, text := range want {
		if got := j.Read(f); got != text {
			t.Errorf("%s differs from an undisturbed run: %s", f, difference(got, text))
		}
	}
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
