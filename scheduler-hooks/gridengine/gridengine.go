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
//   - s_rt sends SIGUSR1 at the limit, h_rt kills.
//   - These signals go to all processes that have the job's supplementary group,
//     which those in a pid namespace have too.
//   - RESTARTED tells that a job has run before, not how often.
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

// notifyDelay is what queues grant by default between a warning and the kill.
const notifyDelay = 60 * time.Second

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
	j.Spread = []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2}
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
	j.Confine = confine(ctx, f, rec)
	return j, nil
}

// hostComplex is what setup and load-sensor give each host.
const hostComplex = "esky_host"

// confine asks for the kind of host that the job runs on, which holds from its
// next start on: qalter replaces the whole list. Not of an array, whose tasks have
// one list, and only where the complex is there to be asked for.
func confine(ctx context.Context, f sched.Facts, rec map[string]string) [][]string {
	if f.HostLabel == "" || f.Env("SGE_TASK_ID") != "undefined" || rec["soft resource_list"] != "" {
		return nil
	}
	complexes, err := f.Ask(ctx, "qconf", "-sc")
	if err != nil || !strings.Contains(complexes, "\n"+hostComplex+" ") {
		return nil
	}
	want := []string{hostComplex + "=" + f.HostLabel}
	for r := range strings.SplitSeq(rec["hard resource_list"], ",") {
		switch name, _, ok := strings.Cut(strings.TrimSpace(r), "="); {
		case ok && name == hostComplex:
			return nil // asked for already, or the user's own choice
		case ok:
			want = append(want, strings.TrimSpace(r))
		}
	}
	return [][]string{{"qalter", "-l", strings.Join(want, ","), f.Env("JOB_ID")}}
}

// complete adds what qstat tells of the job.
func complete(j *sched.Job, f sched.Facts, rec map[string]string) {
	limits := resources(rec["hard resource_list"])
	for _, name := range []string{"s_rt", "h_rt"} { // the later of the two overrules nothing: the earlier end counts
		span, ok := sched.Clock(limits[name])
		if !ok || f.Began.IsZero() {
			continue
		}
		if end := f.Began.Add(span); j.End.IsZero() || end.Before(j.End) {
			j.End = end
		}
	}
	if strings.EqualFold(rec["notify"], "TRUE") {
		j.Grace = notifyDelay
	} else if f.Env("SGE_CKPT_ENV") == "" {
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

// resources reads "h_rt=3600,s_rt=3500".
func resources(list string) map[string]string {
	all := map[string]string{}
	for r := range strings.SplitSeq(list, ",") {
		if name, value, ok := strings.Cut(r, "="); ok {
			all[strings.TrimSpace(name)] = value
		}
	}
	return all
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
