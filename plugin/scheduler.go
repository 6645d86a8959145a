// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"syscall"
	"time"
)

// Scheduler knows one batch system. It answers with what is to be done; the host
// does it. So it can be tested as a table: facts in, a job and actions out. It may
// ask its batch system's own commands and daemons, but an answer that does not
// come is a warning, never an error.
//
// Embed PlainScheduler for what a batch system does not have.
type Scheduler interface {
	// Describe says which batch system it is.
	Describe(ctx context.Context) (SchedulerDescription, error)

	// Detect tells whether the facts are those of a job of this batch system. The
	// environment alone should tell.
	Detect(ctx context.Context, f Facts) (bool, error)

	// Job tells which job this is. An error means that it cannot be told.
	Job(ctx context.Context, f Facts) (Job, error)

	// Plan tells what an event means for the job. The host may ask once for all
	// events, at the start.
	Plan(ctx context.Context, f Facts, j Job, e Event) (Intent, error)

	// Constrain tells how to have the next host match what a saved job needs. It is
	// asked before Requeue.
	Constrain(ctx context.Context, f Facts, j Job, n Needs) (Action, error)

	// Requeue tells how a saved job comes back. The host ends with the action's
	// status, which is never 0.
	Requeue(ctx context.Context, f Facts, j Job) (Action, error)

	// Hold tells how to keep a job from being run again, with a reason that its
	// user sees: it makes no progress.
	Hold(ctx context.Context, f Facts, j Job, reason string) (Action, error)

	// Show tells how to put a line of text beside the job in the queue.
	Show(ctx context.Context, f Facts, j Job, text string) (Action, error)

	// Finish tells what is to be done when the job has ended for good.
	Finish(ctx context.Context, f Facts, j Job, status int) (Action, error)
}

// SchedulerDescription is who a scheduler plugin is.
type SchedulerDescription struct {
	Name    string
	Version string
}

// Facts are all that a scheduler is told of the process that asks.
type Facts struct {
	Env     []string  // NAME=value
	Command []string  // that it is to run
	Dir     string    // its working directory
	Pid     int       // its own
	Now     time.Time // when the facts were gathered

	Stdout struct { // its standard output
		File   bool // an ordinary file
		Append bool // opened to append
		Path   string
	}

	Leader bool      // it is what the scheduler started, not something below a script
	Began  time.Time // when its session began
	Start  int64     // a number that tells this session from all others
}

// Getenv is the value of a variable of the environment, "" without it.
func (f Facts) Getenv(name string) string {
	value := ""
	for _, kv := range f.Env {
		if len(kv) > len(name) && kv[:len(name)] == name && kv[len(name)] == '=' {
			value = kv[len(name)+1:]
		}
	}
	return value
}

// Job is a job as its scheduler describes it.
type Job struct {
	Scheduler string
	ID        string // what the scheduler's own commands call it
	Key       string // names its images: the same in each incarnation, and no other job's
	Attempt   int64  // incarnations before this one, or a number that no other of them has
	Sole      bool   // no other command of this job can have the same Key
	Step      bool   // part of a larger job: leaving takes the whole job along

	End   time.Time     // when its time is over; zero if never, or not known
	Grace time.Duration // sure to pass between the first signal and SIGKILL; 0 if not known

	TruncatesOutput bool     // the next incarnation empties the output file
	Comment         string   // that users see beside the job
	NoReturn        string   // why the scheduler will not start it again; empty if it will
	Warnings        []string // one sentence each, for the user
}

// Event is something that happens to a job.
type Event struct {
	Signal syscall.Signal // that came; 0: the end of its time is near
}

// Intent is what an event means.
type Intent int

// Intents.
const (
	Forward Intent = iota // it is the job's own business
	Leave                 // save the job and go
	Ignore                // nothing
)

// Needs are what the host of a saved job must have.
type Needs struct {
	Arch        string // as Go calls it
	Kernel      string
	CPUModel    string
	CPUFeatures []string // as /proc/cpuinfo names them
}

// Action is what a host does for a job.
type Action struct {
	Commands    [][]string // one after the other
	Settled     []string   // in an error message: what the command was to bring about is so already
	Exit        int        // of the host; 0: as the host likes
	WaitForKill bool       // if the commands fail, do not exit but wait
	Note        string     // one sentence for the user
}

// PlainScheduler answers for a batch system that has nothing special: TERM, INT,
// HUP and XCPU mean to leave, and a saved job ends with status 75.
type PlainScheduler struct{}

// ExitAgain is the exit status "saved, run me again" (EX_TEMPFAIL, sysexits.h).
const ExitAgain = 75

// exitHeld is the status of a job that is not to be run again as it is.
const exitHeld = 69

// Plan implements Scheduler.
func (PlainScheduler) Plan(_ context.Context, _ Facts, _ Job, e Event) (Intent, error) {
	switch e.Signal {
	case 0, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGXCPU:
		return Leave, nil
	}
	return Forward, nil
}

// Constrain implements Scheduler.
func (PlainScheduler) Constrain(context.Context, Facts, Job, Needs) (Action, error) {
	return Action{}, nil
}

// Requeue implements Scheduler.
func (PlainScheduler) Requeue(context.Context, Facts, Job) (Action, error) {
	return Action{Exit: ExitAgain, Note: "run the same command line again to go on"}, nil
}

// Hold implements Scheduler.
func (PlainScheduler) Hold(_ context.Context, _ Facts, _ Job, reason string) (Action, error) {
	return Action{Exit: exitHeld, Note: reason}, nil
}

// Show implements Scheduler.
func (PlainScheduler) Show(context.Context, Facts, Job, string) (Action, error) {
	return Action{}, nil
}

// Finish implements Scheduler.
func (PlainScheduler) Finish(context.Context, Facts, Job, int) (Action, error) {
	return Action{}, nil
}
