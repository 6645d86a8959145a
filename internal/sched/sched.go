// SPDX-License-Identifier: Apache-2.0

// Package sched is what the rest of esky knows about batch queue systems: an
// interface that each adapter under scheduler-hooks implements, and the adapter
// for the case of no batch system at all.
//
// An adapter is pure. It is given Facts (environment, command line, what file
// descriptor 1 is, a way to ask the scheduler) and answers with a Job (which job
// this is, when it ends, which signals mean "leave") and with Actions (what to
// run and how to exit once the job has been saved). It starts nothing itself,
// so that it can be tested as a table.
//
// Flow: Gather facts, Find the adapter, Describe the job, choose the job key
// with Job.Pick; later Leave, Hold or Status give an Action, which Perform runs.
package sched

import (
	"context"
	"syscall"
	"time"
)

// ExitAgain is the exit status "checkpointed, run me again" (EX_TEMPFAIL of
// sysexits.h) unless an adapter names another.
const ExitAgain = 75

// ExitCannot is the status of a job that is held because resuming it again
// would not help. It differs from ExitAgain so that a site which requeues jobs
// by that status does not requeue this one for ever.
const ExitCannot = 69

// Env looks an environment variable up; absent and empty are the same.
type Env func(key string) string

// Ask runs a scheduler command to its end and returns its standard output. The
// error of a command that ran and failed contains what it wrote to stderr.
type Ask func(ctx context.Context, argv ...string) (string, error)

// Facts is all that an adapter may look at.
type Facts struct {
	Env     Env
	Ask     Ask
	Command []string  // the program that esky runs, with its arguments
	Dir     string    // its working directory
	Pid     int       // of the monitor, as the scheduler sees it
	Now     time.Time // when the adapter is asked
	Stdout  Stream    // the monitor's descriptor 1

	Read       func(path string) (string, error) // a small file that the scheduler wrote for the job
	Leader     bool                              // the monitor leads its session: it is what the scheduler started
	Began      time.Time                         // when that session began
	HostLabel  string                            // what kind of machine this is (package host); empty: not known
	ImageLabel string                            // what kind the image wants that this host cannot resume; empty: not known
	Start      int                               // a number that tells this session from all others
}

// Stream says what a standard stream is connected to.
type Stream struct {
	Regular bool   // an ordinary file
	Append  bool   // opened with O_APPEND
	Path    string // of an ordinary file
}

// Job is the running job as its scheduler describes it.
type Job struct {
	Scheduler string // name of the adapter
	ID        string // what the scheduler's own commands call it; empty without a scheduler
	Attempt   int    // incarnations of this job before this one, or a number that no other of them has
	Key       string // of the store: the same in each incarnation. See Pick
	Sole      bool   // no other command of this job can have the same Key
	Step      bool   // part of a larger job: leaving takes the whole job along

	End   time.Time     // when the scheduler will end it; zero if never or not known
	Grace time.Duration // sure to pass between the first forced-end signal and SIGKILL; 0 if not known

	Leave  []syscall.Signal // "save the job and leave", whoever sends it
	Ignore []syscall.Signal // noise of the scheduler: neither for esky nor for the job
	// Spread are those of Leave that the scheduler sends to each process of the job
	// at once. A program is started with them ignored, or it would be dead before
	// it is saved; one that catches them does what it does.
	Spread []syscall.Signal

	// Confine are commands by which the scheduler starts the job again only where
	// its image can live, whoever takes it away. They are run once the job runs;
	// that they fail is no matter: a wrong host refuses the image.
	Confine [][]string

	Comment  string   // text that users see beside the job in the queue
	NoReturn string   // why the scheduler will not start this job again by itself; empty if it will
	Warnings []string // one sentence each, for the user, at start
}

// Action is what to do about the scheduler. Perform runs the commands.
type Action struct {
	Commands [][]string
	// Then are commands for the better, tried once after the others.
	Then [][]string
	// Settled lists parts of error messages that mean "what the command was to
	// bring about is so already".
	Settled []string
	// Exit is the monitor's exit status.
	Exit int
	// WaitForKill says to block until the scheduler kills us if Perform failed:
	// a job that is killed in a preemption is requeued, one that exits by itself
	// is not.
	WaitForKill bool
	// Stay is how long to wait for the scheduler's kill after all commands have
	// succeeded: a script around us must not go on to its next line meanwhile.
	Stay time.Duration
	// Note is one sentence for the user.
	Note string
}

// Adapter is one batch queue system.
type Adapter interface {
	Name() string
	// Detect tells from the environment alone whether we run under it.
	Detect(Env) bool
	// Describe never fails for want of an answer from the scheduler's daemons:
	// it then leaves fields zero and adds a warning. An error means that the
	// job cannot be identified.
	Describe(context.Context, Facts) (Job, error)
	// Leave is asked once a final image is published and the processes of the
	// job are gone (or still frozen): bring the job back, the same, elsewhere.
	Leave(context.Context, Facts, Job) Action
	// Hold keeps the job in the queue without running it, with a reason that
	// its user sees: it makes no progress.
	Hold(j Job, reason string) Action
	// Status shows a line of text beside the job in the queue.
	Status(j Job, text string) Action
}

// A Mover is an adapter that can send a job away from a host that cannot resume it.
type Mover interface {
	Adapter
	// Elsewhere brings the job back on any other host. It is not ok where there is
	// none, or enough have been tried: the job is then held.
	Elsewhere(ctx context.Context, f Facts, j Job, reason string) (a Action, ok bool)
}

// Finisher is an adapter whose scheduler wants to know when a job has ended for
// good.
type Finisher interface {
	Finish(j Job, status int) Action
}
