// SPDX-License-Identifier: Apache-2.0

// Package engine starts, checkpoints and resumes jobs. It is what the monitor
// calls; the work is done by short-lived worker processes of the same binary,
// so that no crash of the monitor is a crash of the tracer and the other way
// round:
//
//	monitor ── __init    pid 1 of the job's namespaces (package namespace)
//	        ├─ __dump    traces the job for one checkpoint (package dump)
//	        └─ __restore rebuilds a job from an image (package restore)
//
// The monitor itself never traces anything.
package engine

import (
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/namespace"
)

// StartOptions says what to start and what the job inherits.
type StartOptions struct {
	Argv       []string
	Env        []string
	Dir        string   // working directory
	Streams    Streams  // standard streams; those that are nil are the caller's
	Lock       *os.File // held open by the job's init, so that the lock outlives the monitor
	StatusPath string   // file in which the init leaves the job's exit status
	Mode       string   // ModeNamespace (also if empty) or ModeShim
	// Ignore are signals that the program is started with ignored.
	Ignore []syscall.Signal
}

// Streams are the standard streams of a job.
type Streams = namespace.Streams

// Exit is how a job ended.
type Exit = namespace.Exit

// ResumeOptions says which image to resume and what to do about changed files.
type ResumeOptions struct {
	Image      string // directory of the generation
	Streams    Streams
	Lock       *os.File
	StatusPath string
	SavedDir   string // where a rollback keeps what it cut off
	Files      string // rollback, accept or strict
	Mode       string // ModeNamespace (also if empty) or ModeShim
}

// ResumeReport tells what a resume did.
type ResumeReport struct {
	Took  time.Duration
	Bytes int64
	Notes []string // one sentence for each file that was cut back, each limit lowered, …
}

// CheckpointOptions describes one checkpoint.
type CheckpointOptions struct {
	Job       *Job
	Dir       string // empty private directory for the generation
	Codec     image.Codec
	Stop      bool           // leave the job frozen until Finish
	Meta      *imagepb.Image // job, generation, attempt, command and cwd are the caller's
	HoldLimit time.Duration  // how long to wait for the program's critical sections

	// Getenv is the environment that names directories for temporary files; nil: the
	// caller's own.
	Getenv func(string) string
}

// Checkpoint is a complete image that is not published yet.
type Checkpoint struct {
	Pause time.Duration // the job stood still so long; with Stop it still does
	Bytes int64         // written
	Took  time.Duration
	Notes []string

	worker *worker
}

// Progress is how far a long operation is. Total is 0 while it is unknown.
type Progress struct {
	Phase       string
	Done, Total int64
}

// RefusedError says that the job has state that cannot be carried. The job was
// not disturbed and runs on.
type RefusedError struct{ Reasons []string }

func (e *RefusedError) Error() string {
	return "cannot be checkpointed: " + strings.Join(e.Reasons, "; ")
}

// MismatchError says that this host cannot resume the image.
type MismatchError struct{ Reasons []host.Mismatch }

func (e *MismatchError) Error() string {
	var all []string
	for _, r := range e.Reasons {
		all = append(all, r.String())
	}
	return "this host cannot resume the image: " + strings.Join(all, "; ")
}

// ChangedError says that files of the job are not what they were at the
// checkpoint, and that the file policy does not allow to go on.
type ChangedError struct{ Reasons []string }

func (e *ChangedError) Error() string {
	return "files have changed: " + strings.Join(e.Reasons, "; ")
}

// TakenError says that addresses of the job's sockets are not free on this host.
type TakenError struct{ Reasons []string }

func (e *TakenError) Error() string {
	return "this host cannot resume the job now: " + strings.Join(e.Reasons, "; ")
}

// TracerError says that the process that froze the job died while the job stood
// still. The job has been ended by that, cleanly, and is to be resumed from its
// last good image.
type TracerError struct{ Err error }

func (e *TracerError) Error() string {
	return "the tracer died in the job's pause, which ends the job: " + e.Err.Error()
}
func (e *TracerError) Unwrap() error { return e.Err }

// NoNamespacesError says that the host does not let this user make the
// namespaces a job lives in.
type NoNamespacesError struct{ Err error }

func (e *NoNamespacesError) Error() string {
	return "this host does not allow the job's namespaces: " + e.Err.Error()
}
func (e *NoNamespacesError) Unwrap() error { return e.Err }

// ExecError says that the program could not be started. Status is what a shell
// would exit with: 127 not found, 126 not executable.
type ExecError struct {
	Path   string
	Status int
	Err    error
}

func (e *ExecError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *ExecError) Unwrap() error { return e.Err }

// JobEndedError says that the job ended by itself before it could be frozen.
type JobEndedError struct{}

func (e *JobEndedError) Error() string { return "the job has ended" }
