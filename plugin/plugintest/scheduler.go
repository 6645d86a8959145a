// SPDX-License-Identifier: Apache-2.0

package plugintest

import (
	"context"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

// SchedulerCase says what is tested, and with which job.
type SchedulerCase struct {
	// Open starts the scheduler, as a host would. It cleans up by t.Cleanup.
	Open func(t *testing.T) plugin.Scheduler
	// Env is what is in the environment of a job of the batch system, in its first
	// incarnation, its second, and so on. Two at least.
	Env [][]string
	// Other is the environment of another job; nil: there is none to compare with.
	Other []string
}

// Scheduler tests a scheduler: that it knows its jobs and nobody else's, that a key
// holds for all incarnations of a job, and that what it answers can be done.
func Scheduler(t *testing.T, c SchedulerCase) {
	s := c.Open(t)
	d, err := s.Describe(t.Context())
	if err != nil || d.Name == "" || d.Version == "" {
		t.Fatalf("describe: %+v, %v", d, err)
	}
	for name, test := range map[string]func(*testing.T, *schedulerFixture){
		"detect": testDetect, "incarnations": testIncarnations, "plan": testPlan, "actions": testActions, "cancel": testSchedulerCancel,
	} {
		t.Run(name, func(t *testing.T) { test(t, &schedulerFixture{T: t, c: c, s: s}) })
	}
}

type schedulerFixture struct {
	*testing.T
	c      SchedulerCase
	s      plugin.Scheduler
	starts int64
}

// facts are those of a process that a batch system has just started, in a session
// that no other has.
func (f *schedulerFixture) facts(env []string) plugin.Facts {
	now := time.Now()
	f.starts++
	facts := plugin.Facts{
		Env: append([]string{"PATH=/usr/bin:/bin", "HOME=/"}, env...), Command: []string{"./prog", "1"}, Dir: "/home/me", Pid: 100,
		Now: now, Leader: true, Began: now.Add(-time.Minute), Start: f.starts,
	}
	facts.Stdout.File, facts.Stdout.Append, facts.Stdout.Path = true, true, "/home/me/out"
	return facts
}

func (f *schedulerFixture) job(env []string) plugin.Job {
	f.Helper()
	j, err := f.s.Job(f.Context(), f.facts(env))
	if err != nil {
		f.Fatalf("the job of %v: %v", env, err)
	}
	return j
}

// testDetect: the environment alone tells.
func testDetect(t *testing.T, f *schedulerFixture) {
	for _, env := range append(f.c.Env, nil) {
		yes, err := f.s.Detect(f.Context(), f.facts(env))
		if err != nil || yes != (env != nil) {
			t.Errorf("%v is a job of it: %v, %v", env, yes, err)
		}
	}
}

// testIncarnations: one key for all incarnations of a job, which differ in their
// attempt, and no other job's.
func testIncarnations(t *testing.T, f *schedulerFixture) {
	if len(f.c.Env) < 2 {
		t.Fatal("the case has less than two incarnations")
	}
	first := f.job(f.c.Env[0])
	if first.Key == "" || first.Key != filepath.Base(first.Key) || first.Key[0] == '.' || first.ID == "" || first.Scheduler == "" {
		t.Errorf("key %q, id %q, scheduler %q: the key must be the name of a directory, none may be empty", first.Key, first.ID, first.Scheduler)
	}
	attempts := map[int64]bool{first.Attempt: true}
	for _, env := range f.c.Env[1:] {
		j := f.job(env)
		if j.Key != first.Key {
			t.Errorf("a later incarnation has the key %q, the first has %q", j.Key, first.Key)
		}
		if attempts[j.Attempt] {
			t.Errorf("two incarnations have the attempt %d", j.Attempt)
		}
		attempts[j.Attempt] = true
	}
	if f.c.Other != nil && f.job(f.c.Other).Key == first.Key {
		t.Errorf("two jobs have the key %q", first.Key)
	}
	if first.Grace < 0 || !first.End.IsZero() && first.End.Before(time.Now().Add(-time.Hour)) {
		t.Errorf("grace %s, end %s", first.Grace, first.End)
	}
}

// testPlan: every event means something, and some event means to leave.
func testPlan(t *testing.T, f *schedulerFixture) {
	facts, j := f.facts(f.c.Env[0]), f.job(f.c.Env[0])
	leaves := false
	for sig := range syscall.Signal(32) {
		what, err := f.s.Plan(f.Context(), facts, j, plugin.Event{Signal: sig})
		if err != nil || what != plugin.Forward && what != plugin.Leave && what != plugin.Ignore {
			t.Errorf("signal %d means %d, %v", sig, what, err)
		}
		leaves = leaves || what == plugin.Leave
	}
	if !leaves {
		t.Error("nothing means that the job has to leave")
	}
}

// testActions: what is to be done can be done: commands have a program, a job that
// comes back or is held does not end with the status of one that is through.
func testActions(t *testing.T, f *schedulerFixture) {
	facts, j := f.facts(f.c.Env[0]), f.job(f.c.Env[0])
	for name, ask := range map[string]func(context.Context) (plugin.Action, error){
		"requeue": func(ctx context.Context) (plugin.Action, error) { return f.s.Requeue(ctx, facts, j) },
		"hold":    func(ctx context.Context) (plugin.Action, error) { return f.s.Hold(ctx, facts, j, "no progress") },
		"constrain": func(ctx context.Context) (plugin.Action, error) {
			return f.s.Constrain(ctx, facts, j, plugin.Needs{Arch: "amd64", Kernel: "6.1.0", CPUModel: "a CPU", CPUFeatures: []string{"avx2"}})
		},
		"show":   func(ctx context.Context) (plugin.Action, error) { return f.s.Show(ctx, facts, j, "a line") },
		"finish": func(ctx context.Context) (plugin.Action, error) { return f.s.Finish(ctx, facts, j, 3) },
	} {
		a, err := ask(f.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, argv := range a.Commands {
			if len(argv) == 0 || argv[0] == "" {
				t.Errorf("%s has a command without a program: %q", name, a.Commands)
			}
		}
		again := name == "requeue" || name == "hold"
		if a.Exit < 0 || a.Exit > 255 || again && a.Exit == 0 {
			t.Errorf("%s ends with status %d", name, a.Exit)
		}
	}
}

// testSchedulerCancel: a question that nobody wants answered any more ends.
func testSchedulerCancel(t *testing.T, f *schedulerFixture) {
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.s.Job(ctx, f.facts(f.c.Env[0])) // with an answer or with an error
	}()
	select {
	case <-done:
	case <-time.After(Patience):
		t.Error("it does not end with its context")
	}
}
