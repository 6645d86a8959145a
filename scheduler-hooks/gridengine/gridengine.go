// SPDX-License-Identifier: Apache-2.0

// Package gridengine is what esky knows about Grid Engine (Son of Grid Engine
// and its relatives).
//
// The facts it stands on, seen with 8.1.9 unless said:
//
//   - A job script that ends with status 99 is queued again at once, under the
//     same id, on any host; its output is appended to. One that ends with 100
//     goes to the error state, where it stays until "qmod -cj".
//   - With "qsub -notify" a job gets SIGUSR1 before it is suspended and SIGUSR2
//     before it is killed, 60 s ahead unless the queue says otherwise (notify).
//     Without it the end of h_rt and qdel are SIGKILL at once.
//   - s_rt sends SIGUSR1 at the limit, s_cpu and s_vmem SIGXCPU; h_rt kills.
//   - These signals go to all processes that have the job's supplementary group,
//     which those in a pid namespace have too.
//   - RESTARTED tells that a job has run before, not how often.
//   - qalter changes the requests of a running job for its next start, all at once
//     ("-l" replaces the hard ones); tasks of an array have one list.
package gridengine

import (
	"context"
	"strings"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// What a job script's exit status means to Grid Engine.
const (
	exitAgain = 99
	exitError = 100
)

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "gridengine" }

// Detect implements sched.Adapter. SGE_TASK_ID is "undefined" where there is no
// array, and missing under every other scheduler that uses JOB_ID.
func (Adapter) Detect(env sched.Env) bool { return env("JOB_ID") != "" && env("SGE_TASK_ID") != "" }

// Describe implements sched.Adapter.
func (Adapter) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	id := f.Env("JOB_ID")
	if task := f.Env("SGE_TASK_ID"); task != "undefined" {
		id += "." + task
	}
	j := f.Named("sge", id)
	j.Scheduler = "gridengine"
	j.Spread = []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU}
	if f.Env("ENVIRONMENT") != "BATCH" {
		j.NoReturn = "it is an interactive job"
	}
	out, err := f.Ask(ctx, "qstat", "-j", f.Env("JOB_ID"))
	if err != nil {
		j.Warnings = append(j.Warnings, "qstat does not answer, so the job's limits are not known (is this an execution host that may submit?)")
		return j, nil
	}
	rec := parse(out)
	complete(&j, f, rec)
	if strings.EqualFold(rec["notify"], "TRUE") {
		j.Grace = notice(ctx, f)
	}
	if name := f.Env("SGE_CKPT_ENV"); name != "" && !migrates(ctx, f) {
		j.Warnings = append(j.Warnings, "the checkpointing environment "+name+" is not esky's, and ends a job that is suspended without saving it: submit with -ckpt esky")
	}
	j.Confine = confine(ctx, f, rec)
	return j, nil
}

// migrates tells whether the job's checkpointing environment has esky save it.
func migrates(ctx context.Context, f sched.Facts) bool {
	out, err := f.Ask(ctx, "qconf", "-sckpt", f.Env("SGE_CKPT_ENV"))
	return err == nil && strings.Contains(out, "ge-migrate")
}

// notice is what the queue grants a job between a warning and the kill: a line
// "notify  00:01:00", whose default that is.
func notice(ctx context.Context, f sched.Facts) time.Duration {
	out, _ := f.Ask(ctx, "qconf", "-sq", f.Env("QUEUE")) // nothing if it does not answer
	for line := range strings.Lines(out) {
		if w := strings.Fields(line); len(w) == 2 && w[0] == "notify" {
			if span, ok := sched.Clock(w[1]); ok {
				return span
			}
		}
	}
	return time.Minute
}

// complete adds what qstat tells of the job.
func complete(j *sched.Job, f sched.Facts, rec map[string]string) {
	limits := parseRequests(rec["hard resource_list"])
	for _, name := range []string{"s_rt", "h_rt"} { // the later of the two overrules nothing: the earlier end counts
		span, ok := sched.Clock(limits[name])
		if !ok || f.Began.IsZero() {
			continue
		}
		if end := f.Began.Add(span); j.End.IsZero() || end.Before(j.End) {
			j.End = end
		}
	}
	if !strings.EqualFold(rec["notify"], "TRUE") && f.Env("SGE_CKPT_ENV") == "" {
		j.Warnings = append(j.Warnings, "the job was submitted without -notify: qdel and suspension give it no time to save itself")
	}
	if strings.EqualFold(rec["restart"], "n") {
		j.Warnings = append(j.Warnings, "the job was submitted with -r n: it does not come back after its host has failed")
	}
}

// parse reads "name:      value" lines of qstat -j. The first of a name counts:
// those that a user fills (context, env_list) may contain any text.
func parse(out string) map[string]string {
	rec := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if _, seen := rec[name]; ok && !seen {
			rec[name] = strings.TrimSpace(value)
		}
	}
	return rec
}

// Leave implements sched.Adapter.
func (Adapter) Leave(_ context.Context, _ sched.Facts, j sched.Job) sched.Action {
	if j.NoReturn != "" {
		return sched.Action{Exit: sched.ExitAgain, Note: "run the same command line again to go on"}
	}
	return sched.Action{Exit: exitAgain, Note: "Grid Engine starts job " + j.ID + " again"}
}

// Hold implements sched.Adapter: the error state keeps the job and shows itself.
func (Adapter) Hold(j sched.Job, reason string) sched.Action {
	if j.NoReturn != "" {
		return sched.Action{Exit: sched.ExitCannot, Note: reason}
	}
	return sched.Action{Exit: exitError, Note: reason + "; job " + j.ID + " is held in the error state: once that is mended, qmod -cj " + j.ID}
}
