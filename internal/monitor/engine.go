// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
)

// Engine is what the monitor needs of package engine.
type Engine interface {
	Start(engine.StartOptions) (Job, error)
	Resume(context.Context, engine.ResumeOptions, func(engine.Progress)) (Job, *engine.ResumeReport, error)
	Attach(initPid int, statusPath string) (Job, error)
}

// Job is a running job.
type Job interface {
	InitPid() int
	MainPid() int // on the host; 0 when the main process is gone
	Wait() (status int, err error)
	Signal(syscall.Signal) error
	Kill() error
	CPU() time.Duration
	MemoryBytes() int64
	Requests() <-chan uint32
	Answer(request uint32, err error)
	Checkpoint(context.Context, engine.CheckpointOptions, func(engine.Progress)) (*Snapshot, error)
}

// Snapshot is a complete image that is not published yet.
type Snapshot struct {
	Pause, Took time.Duration
	Bytes       int64
	Notes       []string
	Finish      func(end bool) error // after a checkpoint with Stop only
}
