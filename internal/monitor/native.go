// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"fmt"

	"github.com/esky-hpc/esky/internal/engine"
)

// Native is package engine as an Engine.
type Native struct{}

// Start implements Engine.
func (Native) Start(o engine.StartOptions) (Job, error) {
	j, err := engine.Start(o)
	if err != nil {
		return nil, err
	}
	return nativeJob{j}, nil
}

// Resume implements Engine.
func (Native) Resume(ctx context.Context, o engine.ResumeOptions, progress func(engine.Progress)) (Job, *engine.ResumeReport, error) {
	j, report, err := engine.Resume(ctx, o, progress)
	if err != nil {
		return nil, nil, err
	}
	return nativeJob{j}, report, nil
}

// Attach implements Engine.
func (Native) Attach(initPid int, statusPath string) (Job, error) {
	j, err := engine.Attach(initPid, statusPath)
	if err != nil {
		return nil, err
	}
	return nativeJob{j}, nil
}

type nativeJob struct{ *engine.Job }

// InitPid implements Job.
func (j nativeJob) InitPid() int { return j.Job.InitPid }

// Wait implements Job. How the program would have ended nobody knows when somebody
// has killed its init.
func (j nativeJob) Wait() (int, error) {
	e, err := j.Job.Wait()
	if err == nil && e.Init {
		err = fmt.Errorf("its init, with which all its processes end, was killed by signal %d", e.Signal)
	}
	return e.Status(), err
}

// Checkpoint implements Job.
func (j nativeJob) Checkpoint(ctx context.Context, o engine.CheckpointOptions, progress func(engine.Progress)) (*Snapshot, error) {
	o.Job = j.Job
	c, err := engine.Save(ctx, o, progress)
	if err != nil {
		return nil, err
	}
	return &Snapshot{Pause: c.Pause, Took: c.Took, Bytes: c.Bytes, Notes: c.Notes, Finish: c.Finish}, nil
}
