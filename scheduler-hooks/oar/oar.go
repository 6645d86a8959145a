// SPDX-License-Identifier: Apache-2.0

// Package oar is what esky knows about OAR, as its documentation and source have
// it.
//
//   - "oarsub --checkpoint SECONDS --signal N" sends signal N (12, SIGUSR2) to the
//     first process so long before the walltime; the user can ask for it by
//     "oardel -c". Without it a job learns nothing before it is killed.
//   - A job of type idempotent that ends with status 99, after at least a minute
//     and before OAR kills it, is submitted again, under another id.
package oar

import (
	"context"
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
func (Adapter) Describe(_ context.Context, f sched.Facts) (sched.Job, error) {
	j := f.Renamed("oar", id(f.Env))
	j.Key += arrayIndex(f.Env)
	if span, ok := sched.Clock(f.Env("OAR_JOB_WALLTIME")); ok && !f.Began.IsZero() {
		j.End = f.Began.Add(span)
	}
	j.Warnings = append(j.Warnings,
		"OAR submits the job again only if it is of type idempotent (oarsub -t idempotent) and leaves before it is killed (--checkpoint SECONDS)")
	return j, nil
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
	a := sched.Action{Exit: exitAgain, Note: "OAR submits job " + j.ID + " again, under another id"}
	if !f.Began.IsZero() && f.Now.Sub(f.Began) < shortest {
		a.Note = "OAR does not submit a job again that ran for less than a minute: do it by hand"
	}
	return a
}
