// SPDX-License-Identifier: Apache-2.0

// Package slurm is what esky knows about Slurm: an adapter for internal/sched,
// and beside it the scripts that a site may hook into slurmd.
//
// The facts it stands on, seen with 22.05.8 unless said:
//
//   - The forced end of a job (time limit, preemption, requeue, scancel) is
//     SIGCONT and SIGTERM, then SIGKILL after KillWait. With proctrack/cgroup
//     only direct children of slurmstepd get them: the batch script's own
//     process and the tasks of steps. With proctrack/linuxproc and pgid all
//     processes of the job do, the program's too.
//   - GraceTime of a preemption is announced to steps only, by SIGTERM. The
//     batch script hears of it if the job has --signal=B: and the site has
//     preempt_send_user_signal.
//   - A preempted job that ends by itself within GraceTime is not requeued; one
//     that is killed at its end is. A job beyond its time limit never is.
//   - "scontrol requeue", which the job's owner may use, keeps the job id and
//     dependants waiting. It also brings back a job that was cancelled, which
//     is why the job's state is asked for first.
//   - A job's state reads COMPLETING whether it was cancelled or requeued: only
//     Restarts, which a requeue counts up at once, tells them apart.
package slurm

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// Adapter implements sched.Adapter.
type Adapter struct{}

// Name implements sched.Adapter.
func (Adapter) Name() string { return "slurm" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("SLURM_JOB_ID") != "" }

// leave is everything that Slurm, its users (--signal) and sites send to
// announce an end. SIGTERM is the only one that Slurm itself chooses.
var leave = []syscall.Signal{
	syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU, syscall.SIGALRM, syscall.SIGINT,
}

// leastKillWait is what slurmd grants at least, whatever KillWait says.
const leastKillWait = 5 * time.Second

// Describe implements sched.Adapter. It costs the controller two requests.
func (Adapter) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	ref, err := reference(f.Env)
	if err != nil {
		return sched.Job{}, err
	}
	j := sched.Job{
		Scheduler: "slurm",
		ID:        ref,
		Attempt:   atoi(f.Env("SLURM_RESTART_COUNT")), // not set in the first run
		Step:      f.Env("SLURM_STEP_ID") != "",
		End:       unixTime(f.Env("SLURM_JOB_END_TIME")), // 23.02 and later
		Leave:     leave,
		Ignore:    []syscall.Signal{syscall.SIGCONT}, // sent along with each of the others
	}
	j.Key, j.Sole = key(f, ref, j.Step)
	rec, err := showJob(ctx, f.Ask, ref)
	if err == nil {
		var conf record
		if conf, err = showConfig(ctx, f.Ask); err == nil {
			complete(&j, f, rec, conf)
		}
	}
	if err != nil {
		j.Warnings = append(j.Warnings, fmt.Sprintf("Slurm does not answer, so what it grants this job is not known: %v", err))
	}
	return j, nil
}

// complete adds what only the controller knows.
func complete(j *sched.Job, f sched.Facts, rec, conf record) {
	if left, ok := rec.left(); ok {
		j.End = f.Now.Add(left)
	}
	j.Grace = max(conf.seconds("KillWait"), leastKillWait)
	j.Comment = rec.text("Comment")
	switch {
	case rec["BatchFlag"] == "0":
		// The next allocation has another id, so the id cannot name the job.
		j.Key, j.Sole = sched.CommandKey(f.Command, f.Dir), false
		j.NoReturn = interactive
	case rec["Requeue"] == "0":
		j.NoReturn = noRequeue
	}
	j.Warnings = append(j.Warnings, warnings(*j, f, rec, conf)...)
}

// reference is how Slurm's commands are to be told of this job. An array task
// is always named by array and index: one of the tasks has the array's own job
// id, and a requeue of that id requeues all of them.
func reference(env sched.Env) (string, error) {
	id, err := strconv.ParseUint(env("SLURM_JOB_ID"), 10, 32)
	if err != nil {
		return "", fmt.Errorf("SLURM_JOB_ID is %q, not a job id", env("SLURM_JOB_ID"))
	}
	if env("SLURM_ARRAY_TASK_ID") == "" {
		return strconv.FormatUint(id, 10), nil
	}
	array, err := strconv.ParseUint(env("SLURM_ARRAY_JOB_ID"), 10, 32)
	if err != nil {
		return "", fmt.Errorf("SLURM_ARRAY_JOB_ID is %q, not a job id", env("SLURM_ARRAY_JOB_ID"))
	}
	task, err := strconv.ParseUint(env("SLURM_ARRAY_TASK_ID"), 10, 32)
	if err != nil {
		return "", fmt.Errorf("SLURM_ARRAY_TASK_ID is %q, not a number", env("SLURM_ARRAY_TASK_ID"))
	}
	return fmt.Sprintf("%d_%d", array, task), nil
}

// key names the command in the store. The process that slurmstepd started as
// the batch script runs one command, the last. Any other, and each task of a
// step, needs more than the job's id: its command line, and its rank where a
// step runs the same line several times. The step's number is no help, for
// steps that start at the same time may swap theirs in the next attempt.
func key(f sched.Facts, ref string, step bool) (key string, sole bool) {
	key = "slurm-" + ref
	if !step && batchProcess(f) {
		return key, true
	}
	key += "-" + sched.CommandHash(f.Command, f.Dir)
	if step && atoi(f.Env("SLURM_STEP_NUM_TASKS")) > 1 {
		key += "-p" + strconv.Itoa(atoi(f.Env("SLURM_PROCID")))
	}
	return key, false
}

// batchProcess tells whether the monitor took the batch script's place ("exec"),
// or a task's: slurmstepd exports the pid of what it started.
func batchProcess(f sched.Facts) bool {
	return f.Env("SLURM_TASK_PID") == strconv.Itoa(f.Pid)
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func unixTime(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}
