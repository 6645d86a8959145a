// SPDX-License-Identifier: Apache-2.0

// Package pbs is what esky knows about OpenPBS, PBS Professional and Torque, as
// their documentation and source have it.
//
//   - A job hears of its end by SIGTERM, to all of its session, kill_delay (10 s
//     unless the queue says otherwise) before SIGKILL; no option asks for an
//     earlier warning, so esky leaves by the clock.
//   - Users cannot requeue: neither qrerun nor an exit status is theirs. A site
//     that has esky's hook (esky_rerun.py) queues a job again that ends with
//     status 99, under the same id; the hook says that it is there by
//     ESKY_PBS_RERUN. Without it the user's own command (ESKY_RESUBMIT) submits
//     the job anew.
package pbs

import (
	"context"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

const (
	exitAgain = 99
	hookVar   = "ESKY_PBS_RERUN"
	killDelay = 10 * time.Second
)

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "pbs" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("PBS_JOBID") != "" }

// Describe implements sched.Adapter.
func (Adapter) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	j := f.Named("pbs", name(f.Env("PBS_JOBID")))
	j.ID, j.Grace = f.Env("PBS_JOBID"), grace(ctx, f)
	switch {
	case f.Env("PBS_ENVIRONMENT") == "PBS_INTERACTIVE":
		j.NoReturn = "it is an interactive job"
	case f.Env(hookVar) == "":
		j.NoReturn = "this site has no esky hook, and PBS lets no user requeue"
		j.Warnings = append(j.Warnings, "PBS does not start this job again by itself: set "+sched.Resubmit+
			" to the qsub command that does, and name the job with --name")
	}
	span, ok := sched.Clock(f.Env("PBS_WALLTIME")) // Torque
	if !ok {
		out, err := f.Ask(ctx, "qstat", "-f", j.ID)
		if err != nil {
			j.Warnings = append(j.Warnings, "qstat does not answer, so the end of the job is not known: it gets "+j.Grace.String()+" to save itself")
			return j, nil
		}
		rec := parse(out)
		span, ok = sched.Clock(rec["Resource_List.walltime"])
		if rec["Rerunable"] == "False" {
			j.Warnings = append(j.Warnings, "the job was submitted with -r n: it does not come back after its host has failed")
		}
	}
	if ok && !f.Began.IsZero() {
		j.End = f.Began.Add(span)
	}
	return j, nil
}

// grace is the kill_delay of the job's queue, in seconds.
func grace(ctx context.Context, f sched.Facts) time.Duration {
	if queue := f.Env("PBS_QUEUE"); queue != "" {
		out, _ := f.Ask(ctx, "qstat", "-Q", "-f", queue) // nothing if it does not answer
		if span, ok := sched.Clock(parse(out)["kill_delay"]); ok {
			return span
		}
	}
	return killDelay
}

// name is the number of a job, with the index in an array: "12[3].server" is
// 12_3. The server's name does not tell jobs of one store apart.
func name(id string) string {
	id, _, _ = strings.Cut(id, ".")
	return strings.TrimSuffix(strings.Replace(id, "[", "_", 1), "]")
}

// parse reads "    name = value" lines of qstat -f. Long values go on in the
// next line after a tab.
func parse(out string) map[string]string {
	rec := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(out, "\n\t", "")) {
		if name, value, ok := strings.Cut(line, " = "); ok {
			rec[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return rec
}

// Leave implements sched.Adapter.
func (Adapter) Leave(_ context.Context, f sched.Facts, j sched.Job) sched.Action {
	if f.Env(hookVar) != "" && j.NoReturn == "" {
		return sched.Action{Exit: exitAgain, Note: "the site's hook queues job " + j.ID + " again"}
	}
	return f.SubmitAgain("PBS")
}
