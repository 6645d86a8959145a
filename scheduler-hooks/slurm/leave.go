// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

// pending is scontrol's answer to the requeue of a job that is requeued already,
// by Slurm or by another task of the same job.
const pending = "Job is pending execution"

// stay outlasts the moment between Slurm's decision to end a job and its SIGTERM to
// the batch script. A script that saw us exit before would go on to its next line.
const stay = 5 * time.Second

// askPause is the time between two tries to learn the job's state.
const askPause = 2 * time.Second

// Leave implements sched.Adapter. The job's state decides: a running job is
// requeued; one that Slurm is ending already is requeued only if Slurm has not
// done that itself and nobody cancelled it. The exit status is never 0: up to
// 23.11 a preempted job that exits 0 in its grace time counts as completed.
func (Adapter) Leave(ctx context.Context, f sched.Facts, j sched.Job) sched.Action {
	a := leaveJob(ctx, f, j)
	if !j.Sole && j.NoReturn != interactive {
		a.Stay = stay
	}
	return a
}

func leaveJob(ctx context.Context, f sched.Facts, j sched.Job) sched.Action {
	if j.NoReturn == interactive {
		return sched.Action{Exit: sched.ExitAgain, Note: "run the same command line again in a new allocation to go on"}
	}
	rec, err := insistJob(ctx, f.Ask, j.ID)
	if err != nil {
		// A requeue asked for blindly could bring back a cancelled job. Killed
		// in a preemption, or by a failing node, the job is requeued anyway.
		return sched.Action{
			Exit: sched.ExitAgain, WaitForKill: true,
			Note: "Slurm does not answer; should it not start job " + j.ID + " again, use: scontrol requeue " + j.ID,
		}
	}
	switch fate(rec, j.Attempt) {
	case requeued:
		return sched.Action{Exit: sched.ExitAgain, Note: "Slurm has requeued job " + j.ID, Then: alike(ctx, f, rec, j.ID)}
	case cancelled:
		return sched.Action{Exit: sched.ExitAgain, Note: "job " + j.ID + " was cancelled and is not requeued; its images stay in the store"}
	}
	return sched.Action{
		Commands:    append(allow(rec["Requeue"] == "0", j.ID), []string{"scontrol", "requeue", j.ID}),
		Then:        alike(ctx, f, rec, j.ID),
		Settled:     []string{pending},
		Exit:        sched.ExitAgain,
		WaitForKill: true,
		Note:        "job " + j.ID + " is requeued",
	}
}

// insistJob asks for the job until there is an answer or ctx ends.
func insistJob(ctx context.Context, ask sched.Ask, ref string) (record, error) {
	for {
		rec, err := showJob(ctx, ask, ref)
		if err == nil {
			return rec, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(askPause):
		}
	}
}

type jobFate int

const (
	ours      jobFate = iota // to be requeued by us
	requeued                 // Slurm or the user has done it
	cancelled                // not wanted any more
)

// fate reads a job's record. attempt is the count of restarts that this
// incarnation began with.
func fate(rec record, attempt int) jobFate {
	if atoi(rec["Restarts"]) > attempt {
		return requeued
	}
	state, _, _ := strings.Cut(rec["JobState"], " ")
	switch state {
	case "PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT":
		return requeued
	case "COMPLETING", "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL":
		return ending(rec)
	}
	return ours // RUNNING, SUSPENDED, SIGNALING, …
}

// ending tells what a job that Slurm is ending for good ends of. Beyond its
// time limit, or preempted in a partition that cancels what it preempts, it may
// still be brought back.
func ending(rec record) jobFate {
	if rec["Reason"] == "TimeLimit" || rec.text("PreemptTime") != "" {
		return ours
	}
	return cancelled
}

// allow undoes --no-requeue, which makes scontrol requeue fail.
func allow(needed bool, ref string) [][]string {
	if !needed {
		return nil
	}
	return [][]string{{"scontrol", "update", "JobId=" + ref, "Requeue=1"}}
}

// ourMark begins the comments that are ours to replace.
const ourMark = "esky: "

// isOurs tells whether a comment is ours, or only asks for us (job_submit.lua).
func isOurs(comment string) bool {
	return comment == "" || comment == "esky" || strings.HasPrefix(comment, "esky:")
}

// Hold implements sched.Adapter: requeued, but held until its user releases it.
func (Adapter) Hold(j sched.Job, reason string) sched.Action {
	a := sched.Action{Exit: sched.ExitCannot, Note: reason}
	if j.NoReturn == interactive {
		return a
	}
	text := ourMark + "held: " + reason
	if !isOurs(j.Comment) {
		text = j.Comment + " | " + text
	}
	a.Commands = append(allow(j.NoReturn == noRequeue, j.ID),
		comment(j.ID, text),
		[]string{"scontrol", "requeuehold", j.ID})
	a.Settled = []string{pending}
	a.Note = reason + "; job " + j.ID + " is held: once that is mended, scontrol release " + j.ID
	return a
}

// Status implements sched.Adapter. A comment of the user's own stays: scripts
// of some sites keep the job's state in it.
func (Adapter) Status(j sched.Job, text string) sched.Action {
	if !isOurs(j.Comment) {
		return sched.Action{}
	}
	return sched.Action{Commands: [][]string{comment(j.ID, ourMark+strings.TrimPrefix(text, ourMark))}}
}

// longestComment keeps a reason readable in squeue's output.
const longestComment = 300

// comment sets the text beside the job: one line, whatever the reason looks like.
func comment(ref, text string) []string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longestComment {
		text = strings.ToValidUTF8(text[:longestComment], "") + " …"
	}
	return []string{"scontrol", "update", "JobId=" + ref, "Comment=" + text}
}
