// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"context"
	"syscall"
)

// Plain is the adapter for the case of no batch system: somebody, or something,
// runs the same line again after exit status 75.
type Plain struct{}

// Name implements Adapter.
func (Plain) Name() string { return "none" }

// Detect implements Adapter.
func (Plain) Detect(Env) bool { return true }

// Describe names the job by its command line and directory: that is what the
// next run of the same line has in common with this one.
func (Plain) Describe(_ context.Context, f Facts) (Job, error) {
	return Job{
		Scheduler: "none",
		Key:       CommandKey(f.Command, f.Dir),
		Leave:     []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGXCPU},
	}, nil
}

// Leave implements Adapter.
func (Plain) Leave(context.Context, Facts, Job) Action {
	return Action{Exit: ExitAgain, Note: "run the same command line again to go on"}
}

// Hold implements Adapter.
func (Plain) Hold(_ Job, reason string) Action {
	return Action{Exit: ExitCannot, Note: reason}
}

// Status implements Adapter: there is no queue to show it in.
func (Plain) Status(Job, string) Action { return Action{} }
