// SPDX-License-Identifier: Apache-2.0

// Package schedtest helps to test adapters as the tables that they are: facts
// in, a job and actions out.
package schedtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/esky-hpc/esky/internal/sched"
)

// Now is when all of it happens, Began when the job's session began.
var (
	Now   = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	Began = Now.Add(-10 * time.Minute)
)

// Case is one situation and what the adapter has to make of it.
type Case struct {
	Env     map[string]string
	Answers map[string]string // by command line; any other command fails
	Files   map[string]string // by path
	Nested  bool              // the monitor is not what the scheduler started

	Job     sched.Job // without Leave, Ignore and Warnings
	Warning string    // part of one of the warnings; empty: there are none
	Leave   sched.Action
}

// Facts are those of the case. The command is "./prog 1" in /work.
func (c Case) Facts() sched.Facts {
	return sched.Facts{
		Env: func(k string) string { return c.Env[k] },
		Ask: func(_ context.Context, argv ...string) (string, error) {
			if out, ok := c.Answers[strings.Join(argv, " ")]; ok {
				return out, nil
			}
			return "", errors.New(argv[0] + ": no answer")
		},
		Read: func(path string) (string, error) {
			if text, ok := c.Files[path]; ok {
				return text, nil
			}
			return "", errors.New(path + ": no such file")
		},
		Command: []string{"./prog", "1"}, Dir: "/work", Pid: 100, Now: Now,
		Leader: !c.Nested, Began: Began, Start: 7, HostLabel: "kind-1",
	}
}

// Run checks the cases.
func Run(t *testing.T, a sched.Adapter, cases map[string]Case) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { c.check(t, a) })
	}
	if a.Detect(func(string) string { return "" }) {
		t.Error("it finds itself where there is nothing")
	}
}

// forecast checks that an adapter tells what happens to the job: all of it, and
// nothing that it does not know of this one.
func forecast(t *testing.T, a sched.Adapter, f sched.Facts, j sched.Job) {
	t.Helper()
	fc, ok := a.(sched.Forecaster)
	if !ok {
		t.Fatal("it cannot tell what happens to a job: Forecast")
	}
	o := fc.Forecast(f, j)
	for what, text := range map[string]string{"warned": o.Warned, "back": o.Back, "output": o.Output} {
		if text == "" || strings.HasSuffix(text, ".") {
			t.Errorf("%s: %q", what, text)
		}
	}
	if j.NoReturn != "" && !strings.Contains(o.Back, j.NoReturn) && f.Env(sched.Resubmit) == "" {
		t.Errorf("back: %q, and nothing of %q", o.Back, j.NoReturn)
	}
	if j.Grace > 0 && !strings.Contains(o.Warned, j.Grace.String()) {
		t.Errorf("warned: %q, and nothing of %v", o.Warned, j.Grace)
	}
}

func (c Case) check(t *testing.T, a sched.Adapter) {
	f, ctx := c.Facts(), context.Background()
	if !a.Detect(f.Env) {
		t.Fatal("it does not find itself")
	}
	j, err := a.Describe(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c.Job, j, cmpopts.IgnoreFields(sched.Job{}, "Leave", "Ignore", "Warnings")); d != "" {
		t.Error("the job:", d)
	}
	if all := strings.Join(j.Warnings, "\n"); (c.Warning == "") != (all == "") || !strings.Contains(all, c.Warning) {
		t.Errorf("warnings %q, want %q", all, c.Warning)
	}
	if len(j.Leave) == 0 {
		t.Error("no signal means that the job has to leave")
	}
	if d := cmp.Diff(c.Leave, a.Leave(ctx, f, j), cmpopts.IgnoreFields(sched.Action{}, "Note", "Settled")); d != "" {
		t.Error("leave:", d)
	}
	forecast(t, a, f, j)
	for what, action := range map[string]sched.Action{"leave": a.Leave(ctx, f, j), "hold": a.Hold(j, "a reason")} {
		if action.Note == "" || action.Exit == 0 {
			t.Errorf("%s: %+v", what, action)
		}
	}
}
