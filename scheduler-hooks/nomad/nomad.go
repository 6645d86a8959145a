// SPDX-License-Identifier: Apache-2.0

// Package nomad is what esky knows about batch jobs of Nomad: a task that has to
// go gets kill_signal (SIGINT) and SIGKILL after kill_timeout (5 s); the restart
// and reschedule blocks of its group start it again, here or on another client.
package nomad

import (
	"context"
	"syscall"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// graceVar is the variable by which the job's file passes its kill_timeout on.
const graceVar = "ESKY_NOMAD_GRACE"

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "nomad" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("NOMAD_ALLOC_ID") != "" }

// Describe implements sched.Adapter: an allocation is replaced by another with
// the same job, group, task and index.
func (Adapter) Describe(_ context.Context, f sched.Facts) (sched.Job, error) {
	id := f.Env("NOMAD_JOB_ID") + "." + f.Env("NOMAD_GROUP_NAME") + "." + f.Env("NOMAD_TASK_NAME")
	if index := f.Env("NOMAD_ALLOC_INDEX"); index != "" && index != "0" {
		id += "." + index
	}
	j := f.Named("nomad", id)
	j.Leave = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}
	if grace, ok := sched.Clock(f.Env(graceVar)); ok {
		j.Grace = grace
	} else {
		j.Warnings = append(j.Warnings, "Nomad kills a task 5 s after its warning unless kill_timeout says more: "+
			"set that, and tell it by "+graceVar)
	}
	return j, nil
}

// Leave implements sched.Adapter.
func (Adapter) Leave(context.Context, sched.Facts, sched.Job) sched.Action {
	return sched.Action{Exit: sched.ExitAgain, Note: "Nomad's restart and reschedule blocks start the task again"}
}
