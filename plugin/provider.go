// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"syscall"
	"time"
)

// Provider starts, checkpoints and resumes jobs. Its methods may be called by
// several goroutines at a time, for several jobs.
//
// A job is never harmed by a call that fails: after an error from Checkpoint it
// runs on as if nothing had been asked, unless the error's kind is Lost. A job
// outlives the process of its provider: Recover takes it over.
//
// Errors should be *Error, so that the host knows what kind they are; anything
// else counts as Internal. Where ctx ends, a call gives up, with the job as it
// was, and returns ctx.Err().
type Provider interface {
	// Describe says who the provider is. It touches nothing and is quick.
	Describe(ctx context.Context) (Description, error)

	// Probe tells whether the provider can work on this host, for this user. That
	// it cannot is a report, not an error.
	Probe(ctx context.Context, o ProbeOptions) (ProbeReport, error)

	// Start starts a job and returns as soon as its program runs, or cannot be
	// executed (kind Exec).
	Start(ctx context.Context, o StartOptions) (Handle, error)

	// Checkpoint writes an image of a running job into an empty directory. What it
	// returns is complete and on storage; the host gives it a name that counts by
	// renaming the directory. A directory with an image that was not completed must
	// never be taken for one. progress is never nil, and may be called from
	// anywhere until Checkpoint returns.
	//
	// With o.Stop the job stands still afterwards, until Finish; the host meanwhile
	// puts the image in its place. If the host never comes back the job runs on. A
	// job that cannot stand still may have ended by its checkpoint instead.
	Checkpoint(ctx context.Context, job Handle, o CheckpointOptions, progress func(Progress)) (Image, error)

	// Finish ends the job that stands still after a Checkpoint with Stop; without
	// end it runs on.
	Finish(ctx context.Context, job Handle, end bool) error

	// Resume makes the job of an image run again, on this host or another. After
	// an error nothing of it runs, and the image is what it was.
	Resume(ctx context.Context, o ResumeOptions, progress func(Progress)) (Resumed, error)

	// Signal sends a signal to the main process of a job and its group, or to every
	// process of it: SIGKILL to all ends it. Kind Ended: there is none any more.
	Signal(ctx context.Context, job Handle, sig syscall.Signal, all bool) error

	// Wait waits for the end of the job and tells how it ended. It is called by
	// several at once, and also after the end.
	Wait(ctx context.Context, job Handle) (Exit, error)

	// Recover takes over a job that an earlier process of the provider has started
	// or resumed; afterwards all calls work on it. It does so too when the job has
	// ended meanwhile, as long as the host has not removed its StateDir.
	Recover(ctx context.Context, job Handle) error

	// Images lists the complete images that lie right below a directory, oldest
	// first. Others' directories are left out.
	Images(ctx context.Context, dir string) ([]Image, error)

	// DescribeImage tells what is in an image, without reading all of it.
	DescribeImage(ctx context.Context, dir string) (Image, error)

	// VerifyImage reads all of an image. Kind Damaged: a byte is not what it was.
	VerifyImage(ctx context.Context, dir string) (Image, error)

	// RemoveImage removes an image with its directory. Kind NotFound: it is none.
	RemoveImage(ctx context.Context, dir string) error
}

// Requester is a Provider whose jobs can ask for checkpoints of themselves (the
// capability CanRequest).
type Requester interface {
	Provider

	// Requests calls request, one call at a time, whenever a program of the job asks
	// for a checkpoint. It returns when the job has ended, or with ctx. A program that
	// nobody listens to is told after a while that there is no checkpoint.
	Requests(ctx context.Context, job Handle, request func()) error

	// Answer tells programs what came of it. With published it is those that had asked
	// when the last image was made, which now has its place; without, all that wait
	// are told that there is none.
	Answer(ctx context.Context, job Handle, published bool) error
}

// Capabilities that a Description may list.
const (
	// CanRunOn: the job runs on after a checkpoint without Stop. Without it every
	// checkpoint ends the job.
	CanRunOn = "run-on"
	// CanStandStill: after a checkpoint with Stop the job waits for Finish.
	CanStandStill = "stand-still"
	// CanMigrate: an image can be resumed on another host.
	CanMigrate = "migrate"
	// CanVerify: images have checksums of their own, by which VerifyImage and Resume
	// notice any byte that has changed in any file. Then the host reads an image
	// neither to make checksums nor to compare them, which would take as long again
	// as the checkpoint and the resume.
	CanVerify = "checksums"
	// CanRequest: the provider is a Requester.
	CanRequest = "requests"
)

// Description is who a provider is.
type Description struct {
	Name         string // as users write it after --provider
	Version      string
	Capabilities []string
	State        []string // what is carried, for people: "memory", "open files" …
}

// ProbeOptions says what is to be looked at.
type ProbeOptions struct {
	StateDir string // where jobs would live; may be empty
}

// ProbeReport tells whether a provider can work on a host.
type ProbeReport struct {
	Usable   bool
	Findings []Finding
}

// Finding is one thing that is missing on a host, or worth knowing.
type Finding struct {
	Fatal  bool   // without it nothing works
	Text   string // what is so
	Remedy string // what to do, or ask for
}

// StartOptions says what to start.
type StartOptions struct {
	Argv    []string
	Env     []string // NAME=value, all of it
	Dir     string   // working directory
	Streams Streams
	// StateDir is private to the job, and the same on all hosts that it may run
	// on. What a provider has to remember of a job it keeps in there.
	StateDir string
	// Hold, if not empty, is a stream which the provider keeps open in a process
	// that lives as long as the job: a lock, for example.
	Hold    Stream
	Options map[string]string // the provider's own
}

// Stream says where a standard stream leads: "fd:N" is descriptor N of the
// provider's process, "" is /dev/null, anything else is a path. OpenStream opens
// it.
type Stream string

// Streams are the standard streams of a job.
type Streams struct{ Stdin, Stdout, Stderr Stream }

// Handle names a running job. The host keeps it, as bytes, for as long as the job
// runs, and gives it to later processes of the provider.
type Handle struct {
	Provider string `json:"provider"`
	Version  int    `json:"version"` // of Data
	// Pid is that of a process on this host which lives as long as the job, and of
	// which all processes of the job descend.
	Pid  int    `json:"pid"`
	Data []byte `json:"data,omitempty"` // the provider's own
}

// CheckpointOptions describes one checkpoint.
type CheckpointOptions struct {
	Dir        string // empty, private, on storage that all hosts of the job see
	Stop       bool
	Generation uint64        // number of the image, for people
	Hold       time.Duration // how long critical sections of the job may delay it; 0: as the provider likes
	Options    map[string]string
}

// Progress is how far a long call is. Total is 0 while it is not known.
type Progress struct {
	Phase       string
	Done, Total int64 // bytes
}

// ResumeOptions says which image to resume, and how.
type ResumeOptions struct {
	Dir      string // of the image; it must not be changed
	StateDir string
	Streams  Streams
	Hold     Stream
	Files    string // files that have changed since: rollback, accept or strict
	Options  map[string]string
	Env      []string // of a program that has to be started anew
}

// Resumed is a job that runs again.
type Resumed struct {
	Job   Handle
	Bytes int64 // read
	Took  time.Duration
	Notes []string // one sentence each, for people
}

// Exit is how a job ended. A provider that knows no more than what a shell would
// show, 128+n for signal n, says that in Code.
type Exit struct {
	Code   int            // exit status; 0 if a signal ended it
	Signal syscall.Signal // that ended it, or 0
}

// Status is an exit as shells show it: 128+n for signal n.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// Image is a complete image.
type Image struct {
	Dir     string
	Created time.Time
	Bytes   int64
	Pause   time.Duration // the job stood still so long
	Took    time.Duration
	Notes   []string          // one sentence each, for people
	Command []string          // of the job, where it is known
	About   map[string]string // anything else, for people
}
