// SPDX-License-Identifier: Apache-2.0

// Package fault breaks things around a job, from the outside: what it finds in
// its store, the disk it writes to, the processes that serve it. Whatever
// happens, a job goes on unharmed where it lives, and is never resumed from
// anything but a whole image.
package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// finished is the status that the job ends with when it is told to finish.
const finished = 7

// A gate is a job that takes its steps when it is told to (programs/gate.c).
type gate struct {
	*harness.Job
	t       *testing.T
	program string
	mib     int
	step    int
}

// newGate is a job with so much memory, not started yet.
func newGate(t *testing.T, mib int) *gate {
	t.Helper()
	program := filepath.Join(harness.Dir(t), "gate")
	harness.Compile(t, program, filepath.Join(harness.Root(), "test/fault/programs/gate.c"), "gcc")
	return &gate{Job: harness.NewJob(t, program, fmt.Sprint(mib)), t: t, program: program, mib: mib}
}

// start starts the job and waits until it is ready.
func (g *gate) start() *harness.Run {
	g.t.Helper()
	r := g.Start()
	r.Until("the job is ready", func() bool { return strings.Contains(g.Read("stdout"), "ready\n") })
	return r
}

// advance lets the job take its next step and waits for it.
func (g *gate) advance(r *harness.Run) {
	g.t.Helper()
	g.step++
	g.Write(fmt.Sprintf("advance-%d", g.step), "")
	r.Until(fmt.Sprintf("step %d", g.step), func() bool {
		return strings.Contains(g.Read("stdout"), fmt.Sprintf("step %d\n", g.step))
	})
}

// shut takes back the leave to take steps, so that a resumed job stays at the
// step of its image.
func (g *gate) shut() {
	g.t.Helper()
	names, err := filepath.Glob(g.Path("advance-*"))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil {
			g.t.Fatal(err)
		}
	}
}

// finish tells the job to end and checks that it ends as an undisturbed one
// would that took so many steps.
func (g *gate) finish(r *harness.Run, steps int) {
	g.t.Helper()
	g.Write("finish", "")
	r.WaitFor(finished)
	g.result(steps)
}

// result checks the job's whole output.
func (g *gate) result(steps int) {
	g.t.Helper()
	if got, want := g.Read("stdout"), g.undisturbed(steps); got != want {
		g.t.Errorf("the job's output is %q, want %q", got, want)
	}
}

// undisturbed is the output of a job without esky that took so many steps.
func (g *gate) undisturbed(steps int) string {
	g.t.Helper()
	other := harness.NewJob(g.t, g.Argv...)
	for i := range steps {
		other.Write(fmt.Sprintf("advance-%d", i+1), "")
	}
	r := other.StartBare()
	r.Until("the last step", func() bool {
		return strings.Count(other.Read("stdout"), "\n") == steps+1
	})
	other.Write("finish", "")
	r.WaitFor(finished)
	return other.Read("stdout")
}

// copyTree copies a directory with all that belongs to it; cp knows how.
func (g *gate) copyTree(from, to string) {
	g.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		g.t.Fatal(err)
	}
	if o := g.Command("cp", "-a", from, to); o.Status != 0 {
		g.t.Fatalf("cp -a %s %s: %s", from, to, o)
	}
}

// says fails the test unless text has all words, whatever their case.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(w)) {
			t.Errorf("esky did not say %q; it said:\n%s", w, text)
		}
	}
}
