// SPDX-License-Identifier: Apache-2.0

// Package freeze stops every thread of a job at one moment and lets it go again
// as if nothing had happened.
//
// The flow: seize and interrupt all threads that can be found below the job's
// init, wait until each has stopped, and look again until nothing new appears:
// only a running thread can make another one. Then every thread's registers,
// signal mask and interrupted system call are read (regs.go, wait.go). Thaw puts
// the very same registers back: the kernel restarts the interrupted calls.
//
// All functions run on the tracer's locked thread.
package freeze

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Job is a frozen job.
type Job struct {
	Tree
	Processes []*Process
	At        time.Time // when the first thread was asked to stop

	threads  map[int]*Thread // by host tid
	sleep    sleepTimes
	deadline time.Time
}

// Process is one process of the job.
type Process struct {
	HostPid int
	// Eye is the thread by which /proc shows the process (procfs.Eye): HostPid, but
	// where the main thread has ended.
	Eye     int
	Pid     int // as the job knows it
	Stat    procfs.Stat
	Status  procfs.Status
	Zombie  bool
	Stopped unix.Signal // the signal of its group-stop, or 0
	Threads []*Thread   // the main thread first, if it lives; none for a zombie
}

// Raw is the process's number for the kernel, in the job's namespace. It is Pid
// but for jobs that were resumed without a namespace of their own.
func (p *Process) Raw() int { return p.Status.NSpid[len(p.Status.NSpid)-1] }

// Leader is the thread that speaks for the process: the main thread, if it lives.
func (p *Process) Leader() *Thread { return p.Threads[0] }

// MainEnded says that the main thread has ended and others run on.
func (p *Process) MainEnded() bool { return p.Eye != p.HostPid }

// Thread is one stopped thread.
type Thread struct {
	HostTid int
	Tid     int // as the job knows it
	Raw     int // as the kernel does, in the job's namespace
	Regs    tracee.Regs
	Sigmask uint64
	Status  procfs.Status // of this thread alone
	Wait    *Wait         // the timed wait it was in, if any

	seen    bool        // has reported its stop
	read    bool        // its registers and mask are known
	group   unix.Signal // reported a group-stop
	gone    bool
	foreign int // host pid of the process it belongs to
}

// Options of a freeze.
type Options struct {
	Limit time.Duration // how long the threads may take to stop
	Known []Sleeper     // waits known from an earlier checkpoint or resume
}

// BusyError says that a thread did not stop: it is in an uninterruptible wait.
type BusyError struct {
	Pid  int
	Comm string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("pid %d (%s) does not stop: it waits in the kernel (a device, a network file system, or vfork)", e.Pid, e.Comm)
}

// ErrEnded says that there is nothing left to freeze.
var ErrEnded = errors.New("the job has no processes any more")

// LeaderError says that the main thread of a process has ended while others run
// on, where that cannot be carried.
type LeaderError struct {
	Pid  int // in the job's namespace
	Comm string
	Why  string
}

func (e *LeaderError) Error() string {
	return fmt.Sprintf("pid %d (%s): its main thread has ended (pthread_exit) and others run on, which cannot be carried %s", e.Pid, e.Comm, e.Why)
}

// errMoving says that something changed while it was looked at.
var errMoving = errors.New("the job's processes change too quickly to be frozen")

// Freeze stops a job.
func Freeze(ctx context.Context, tree Tree, o Options) (*Job, error) {
	deadline := time.Now().Add(o.Limit)
	known := o.Known
	for {
		j := &Job{Tree: tree, threads: map[int]*Thread{}, deadline: deadline}
		j.sleep = lookAtSleepers(tree)
		j.At = time.Now()
		err := j.stopAll(ctx)
		if err == nil {
			if err = j.describe(known); err == nil {
				return j, nil
			}
		}
		asleep, releaseErr := j.release(known)
		if releaseErr != nil && !errors.As(err, new(*VforkError)) {
			return nil, releaseErr
		}
		if !passing(err) || time.Now().After(deadline) {
			return nil, err
		}
		known = asleep
		time.Sleep(5 * time.Millisecond)
	}
}

// passing says that another attempt may succeed: a thread waits in the kernel,
// or one that was stopped already has been ended, by a signal or by another that
// executes a new program.
func passing(err error) bool {
	var busy *BusyError
	return errors.As(err, &busy) || errors.Is(err, tracee.ErrGone) || procfs.Gone(err) || errors.Is(err, errMoving)
}

// stopTime is how long a thread that waits in the kernel may take to stop before
// all others are let go once: one in vfork(2) stops only when its child, which
// may be frozen already, goes on to execve(2).
const stopTime = 50 * time.Millisecond

func (j *Job) stopAll(ctx context.Context) error {
	if err := j.stopVforks(); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		fresh, err := j.seizeNew()
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			break
		}
		for _, t := range fresh {
			if err := j.awaitStop(t, stopTime); err != nil {
				return err
			}
		}
	}
	if len(j.threads) == 0 {
		return ErrEnded
	}
	if j.Adopted() {
		return j.noStranger()
	}
	return nil
}

// noStranger looks for a thread that was taken for one of the job and is none: a
// pid can be given to another process between the look and the stop.
func (j *Job) noStranger() error {
	pids, err := j.Members()
	if err != nil {
		return err
	}
	for _, t := range j.threads {
		if !t.gone && !slices.Contains(pids, t.foreign) && !isThreadOf(t.HostTid, pids) {
			return fmt.Errorf("thread %d: %w", t.HostTid, errMoving)
		}
	}
	return nil
}

// isThreadOf finds the process of a thread that was born in the freeze.
func isThreadOf(tid int, pids []int) bool {
	status, err := procfs.ReadStatus(tid, 0)
	return err == nil && slices.Contains(pids, status.Tgid)
}

// awaitStop waits for the stop that Interrupt asked for. Before it the thread
// may report a signal on its way, which it gets, or a child just made, which is
// a tracee from its birth. On a host with too few processors a thread can be
// long in coming; only one that waits in the kernel has no more than patience.
func (j *Job) awaitStop(t *Thread, patience time.Duration) error {
	for !t.seen && !t.gone {
		until := time.Now().Add(patience)
		if until.After(j.deadline) {
			until = j.deadline
		}
		s, ok, err := tracee.TryWait(t.HostTid, until)
		switch {
		case errors.Is(err, tracee.ErrGone):
			t.gone, err = true, nil
		case err != nil:
		case ok:
			err = j.take(t, s)
		default:
			err = j.late(t)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// late judges a thread that has not stopped in time.
func (j *Job) late(t *Thread) error {
	st, err := procfs.ReadStat(t.foreign, t.HostTid)
	switch {
	case procfs.Gone(err):
		t.gone = true
		return nil
	case err == nil && (st.State == 'Z' || st.State == 'X'):
		t.gone = true // a main thread that ended; it is reported with the last of the others
		return nil
	case err == nil && st.State != 'D' && time.Now().Before(j.deadline):
		return nil
	}
	reapDead(t.foreign)
	return &BusyError{Pid: t.foreign, Comm: st.Comm}
}

// take deals with one report of a thread that was asked to stop. Any other stop
// uses up the interrupt (ptrace(2)), so it is asked again.
func (j *Job) take(t *Thread, s tracee.Stop) error {
	switch s.Event() {
	case unix.PTRACE_EVENT_STOP:
		t.seen = true
		if s.Signal() != unix.SIGTRAP {
			t.group = s.Signal()
		}
		return whileThere(tracee.ArmExitKill(t.HostTid))
	case unix.PTRACE_EVENT_CLONE, unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK:
		child, err := tracee.NewChild(t.HostTid)
		if err != nil {
			return whileThere(err)
		}
		if j.threads[child] == nil {
			j.threads[child] = &Thread{HostTid: child, foreign: child}
			if err := j.awaitStop(j.threads[child], stopTime); err != nil {
				return err
			}
		}
		return onTo(t, 0)
	}
	if s.Ended() {
		t.gone = true
		return nil
	}
	return onTo(t, s.Signal())
}

// onTo lets a thread go on to its stop.
func onTo(t *Thread, sig unix.Signal) error {
	if err := tracee.Interrupt(t.HostTid); err != nil {
		return whileThere(err)
	}
	return whileThere(tracee.Cont(t.HostTid, sig))
}

// whileThere forgives a thread that was killed in its stop; the next wait tells.
func whileThere(err error) error {
	if errors.Is(err, tracee.ErrGone) {
		return nil
	}
	return err
}

// Live are the processes that are not zombies.
func (j *Job) Live() []*Process {
	return slices.DeleteFunc(slices.Clone(j.Processes), func(p *Process) bool { return p.Zombie })
}
