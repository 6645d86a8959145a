// SPDX-License-Identifier: Apache-2.0

// Package oar is what esky knows about OAR; what is said here was seen on a server
// of OAR 2.5.9 (test/lab/oar), but for arrays and for what is said of its kills.
//
//   - "oarsub --checkpoint SECONDS --signal N" sends signal N (12, SIGUSR2) to the
//     first process so long before the walltime; the user can ask for it by
//     "oardel -c". Without it a job learns nothing before it is killed.
//   - A job of type idempotent that ends with status 99, after at least a minute
//     and before OAR kills it, is submitted again, under another id, with the same
//     options and script. Its output goes to the files of the new id.
//   - The signal goes to the process that the user's shell has become or started;
//     "exec" in the script makes that esky-wrap.
package oar

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

const (
	exitAgain = 99
	// shortest is how long a job has to have run for OAR to submit it again.
	shortest = time.Minute
)

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "oar" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return id(env) != "" }

func id(env sched.Env) string {
	if v := env("OAR_JOB_ID"); v != "" {
		return v
	}
	return env("OAR_JOBID") // up to OAR 2.5
}

// Describe implements sched.Adapter.
func (Adapter) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	j := f.Renamed("oar", id(f.Env))
	j.Key += arrayIndex(f.Env)
	if span, ok := sched.Clock(f.Env("OAR_JOB_WALLTIME")); ok && !f.Began.IsZero() {
		j.End = f.Began.Add(span)
	}
	switch types, err := types(ctx, f.Ask, j.ID); {
	case err != nil: // hosts need not have OAR's commands
		j.Warnings = append(j.Warnings,
			"OAR submits the job again only if it is of type idempotent (oarsub -t idempotent) and leaves before it is killed (--checkpoint SECONDS)")
	case !slices.Contains(types, "idempotent"):
		j.NoReturn = "it is not of type idempotent (oarsub -t idempotent)"
	}
	return j, nil
}

// types are those of the job: "    types = besteffort, idempotent" in the answer.
func types(ctx context.Context, ask sched.Ask, id string) ([]string, error) {
	out, err := ask(ctx, "oarstat", "-f", "-j", id)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "types ="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }), nil
		}
	}
	return nil, fmt.Errorf("oarstat says nothing of the types of job %s", id)
}

// arrayIndex tells the members of an array apart, which run the same line.
func arrayIndex(env sched.Env) string {
	if n := env("OAR_ARRAY_INDEX"); n != "" && n != "1" {
		return "." + n
	}
	return ""
}

// Leave implements sched.Adapter.
func (Adapter) Leave(_ context.Context, f sched.Facts, j sched.Job) sched.Action {
	if j.NoReturn != "" {
		return sched.Action{Exit: exitAgain, Note: "OAR does not submit job " + j.ID + " again, for " + j.NoReturn + ": submit the same script once more to go on"}
	}
	a := sched.Action{Exit: exitAgain, Note: "OAR submits job " + j.ID + " again, under another id"}
	if !f.Began.IsZero() && f.Now.Sub(f.Began) < shortest {
		a.Note = "OAR does not submit a job again that ran for less than a minute: do it by hand"
	}
	return a
}
