// SPDX-License-Identifier: Apache-2.0

// Package lsf is what esky knows about IBM Spectrum LSF, as its documentation
// has it.
//
//   - "bsub -wa USR1 -wt MINUTES" sends a signal ahead of the run limit. At the
//     limit comes SIGUSR2, and the kill ten minutes later; bkill and preemption
//     send SIGINT, SIGTERM and SIGKILL, ten seconds apart
//     (JOB_TERMINATE_INTERVAL). Parallel jobs get SIGKILL alone, unless the site
//     has LSB_USE_SEQUENTIAL_SIGNAL.
//   - A job that ends with a status named by "bsub -Q" goes back to its queue
//     under the same id; brequeue, which its owner may use, does the same.
package lsf

import (
	"context"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// terminateInterval is the default of JOB_TERMINATE_INTERVAL: what passes
// between SIGINT and SIGTERM, and again to SIGKILL.
const terminateInterval = 10 * time.Second

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "lsf" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("LSB_JOBID") != "" }

// Describe implements sched.Adapter.
func (Adapter) Describe(_ context.Context, f sched.Facts) (sched.Job, error) {
	j := f.Named("lsf", f.Env("LSB_JOBID"))
	if index := f.Env("LSB_JOBINDEX"); index != "" && index != "0" {
		j.Key = strings.Replace(j.Key, "lsf-"+j.ID, "lsf-"+j.ID+"_"+index, 1)
		j.ID += "[" + index + "]"
	}
	j.Grace = 2 * terminateInterval
	if len(strings.Fields(f.Env("LSB_HOSTS"))) > 1 {
		j.Grace = 0
		j.Warnings = append(j.Warnings, "LSF sends parallel jobs SIGKILL without a warning, unless the site has LSB_USE_SEQUENTIAL_SIGNAL=y: use --every")
	}
	if f.Env("LSB_INTERACTIVE") != "" {
		j.NoReturn = "it is an interactive job"
	}
	return j, nil
}

// Leave implements sched.Adapter. brequeue ends the job and queues it again; a
// job that is on its way back already answers that it is not running.
func (Adapter) Leave(_ context.Context, _ sched.Facts, j sched.Job) sched.Action {
	if j.NoReturn != "" {
		return sched.Action{Exit: sched.ExitAgain, Note: "run the same command line again to go on"}
	}
	return sched.Action{
		Commands: [][]string{{"brequeue", j.ID}},
		Settled:  []string{"Job has not started yet", "is not running", "No matching job"},
		Exit:     sched.ExitAgain, WaitForKill: true,
		Note: "job " + j.ID + " is requeued",
	}
}

// Hold implements sched.Adapter: queued again, and held until its user releases it.
func (Adapter) Hold(j sched.Job, reason string) sched.Action {
	if j.NoReturn != "" {
		return sched.Action{Exit: sched.ExitCannot, Note: reason}
	}
	return sched.Action{
		Commands: [][]string{{"brequeue", "-H", j.ID}}, Exit: sched.ExitCannot,
		Note: reason + "; job " + j.ID + " is held: once that is mended, bresume " + j.ID,
	}
}

// Status implements sched.Adapter: bjobs -l shows the job's description and its
// last message.
func (Adapter) Status(j sched.Job, text string) sched.Action {
	return sched.Action{Commands: [][]string{{"bpost", "-d", "esky: " + strings.TrimPrefix(text, "esky: "), j.ID}}}
}
