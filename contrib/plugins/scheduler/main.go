// SPDX-License-Identifier: Apache-2.0

// This is a whole scheduler plugin, to begin from: for a queue that says by variables
// which job it is, sends SIGUSR2 when a job has to leave, and takes "spool again ID"
// to bring it back.
//
//	go build -o plugins/esky-scheduler-example ./contrib/plugins/scheduler
package main

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

func main() { plugin.Serve(plugin.ServeConfig{Scheduler: spool{}}) }

type spool struct{ plugin.PlainScheduler }

func (spool) Describe(context.Context) (plugin.SchedulerDescription, error) {
	return plugin.SchedulerDescription{Name: "example", Version: "1"}, nil
}

func (spool) Detect(_ context.Context, f plugin.Facts) (bool, error) {
	return f.Getenv("SPOOL_ID") != "", nil
}

func (spool) Job(_ context.Context, f plugin.Facts) (plugin.Job, error) {
	id := f.Getenv("SPOOL_ID")
	attempt, err := strconv.ParseInt(f.Getenv("SPOOL_TRY"), 10, 64)
	if err != nil {
		return plugin.Job{}, plugin.Errorf(plugin.Host, "", "SPOOL_TRY=%q is no number", f.Getenv("SPOOL_TRY"))
	}
	j := plugin.Job{Scheduler: "example", ID: id, Key: "spool-" + id, Attempt: attempt, Sole: f.Leader, Grace: 20 * time.Second}
	if s, err := strconv.ParseInt(f.Getenv("SPOOL_END"), 10, 64); err == nil {
		j.End = time.Unix(s, 0)
	} else {
		j.Warnings = append(j.Warnings, "spool does not tell when the job's time is over")
	}
	return j, nil
}

func (spool) Plan(_ context.Context, _ plugin.Facts, _ plugin.Job, e plugin.Event) (plugin.Intent, error) {
	switch e.Signal {
	case 0, syscall.SIGUSR2, syscall.SIGTERM:
		return plugin.Leave, nil
	case syscall.SIGCONT:
		return plugin.Ignore, nil
	}
	return plugin.Forward, nil
}

func (spool) Constrain(_ context.Context, _ plugin.Facts, j plugin.Job, n plugin.Needs) (plugin.Action, error) {
	return plugin.Action{Commands: [][]string{{"spool", "want", j.ID, "arch=" + n.Arch}}}, nil
}

func (spool) Requeue(_ context.Context, _ plugin.Facts, j plugin.Job) (plugin.Action, error) {
	return plugin.Action{Commands: [][]string{{"spool", "again", j.ID}}, Exit: plugin.ExitAgain, Note: "spool starts it again"}, nil
}

func (spool) Hold(_ context.Context, _ plugin.Facts, j plugin.Job, reason string) (plugin.Action, error) {
	return plugin.Action{Commands: [][]string{{"spool", "hold", j.ID, reason}}, Exit: 69, Note: reason}, nil
}

func (spool) Finish(_ context.Context, _ plugin.Facts, j plugin.Job, status int) (plugin.Action, error) {
	return plugin.Action{Commands: [][]string{strings.Fields("spool done " + j.ID + " " + strconv.Itoa(status))}}, nil
}
