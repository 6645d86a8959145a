// SPDX-License-Identifier: Apache-2.0

// Package tracee is the only code that calls ptrace(2). It seizes threads,
// moves their registers and signal state, and makes them run batches of system
// calls through the stub (shim.StubCode), one ptrace stop a batch.
//
// Thread ownership: the kernel ties a tracee to the thread that seized it, so
// every function here must run on one OS thread, locked with
// runtime.LockOSThread, in a process that has no other children to wait for.
package tracee

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Options every tracee gets. EXITKILL: when the tracer dies the tracee dies
// too, because one that ran on with half of its state replaced would compute
// nonsense. The TRACE* options attach new threads and children at birth.
const Options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACESYSGOOD |
	unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK

// ErrGone says that the thread does not exist any more.
var ErrGone = errors.New("thread is gone")

// Stop is one wait(2) report of a stopped or dead tracee.
type Stop struct {
	Status unix.WaitStatus
}

// Event is the PTRACE_EVENT_* of the stop, 0 for a plain signal stop.
func (s Stop) Event() int { return int(s.Status>>16) & 0xff }

// Signal is the signal of a signal-delivery stop.
func (s Stop) Signal() unix.Signal { return s.Status.StopSignal() }

// Ended says that the tracee is dead.
func (s Stop) Ended() bool { return s.Status.Exited() || s.Status.Signaled() }

// Syscall says that this is a stop at the entry or the exit of a system call.
func (s Stop) Syscall() bool {
	return s.Status.Stopped() && s.Event() == 0 && s.Status.StopSignal() == unix.SIGTRAP|0x80
}

func (s Stop) String() string {
	switch {
	case s.Status.Exited():
		return fmt.Sprintf("exited with %d", s.Status.ExitStatus())
	case s.Status.Signaled():
		return fmt.Sprintf("killed by %v", s.Status.Signal())
	case s.Event() != 0:
		return fmt.Sprintf("ptrace event %d", s.Event())
	}
	return fmt.Sprintf("stopped by %v", s.Status.StopSignal())
}

// Seize attaches to the thread without stopping it. It waits for a program that
// is being executed in the process: such a thread waits in turn for the death of
// all others, and of those that we trace already only Reap makes an end.
func Seize(tid int) error {
	err := ptraceBlocking(unix.PTRACE_SEIZE, tid, Options&^unix.PTRACE_O_EXITKILL)
	if err != nil {
		return fmt.Errorf("seize thread %d: %w", tid, gone(err))
	}
	return nil
}

// Reap takes note of the death of a tracee, if it is dead, and of nothing else.
// Unlike all else here it may be called on any thread. It looks before it waits,
// because a wait for the dead alone would take the report of a stopped tracee
// with it (wait_task_stopped in kernel/exit.c).
func Reap(tid int) (dead bool) {
	const cldDumped = 3 // CLD_EXITED, CLD_KILLED, CLD_DUMPED of sigaction(2)
	var info unix.Siginfo
	const how = unix.WEXITED | unix.WNOHANG | unix.WALL
	if err := unix.Waitid(unix.P_PID, tid, &info, how|unix.WNOWAIT, nil); err != nil {
		return false
	}
	if info.Signo != int32(unix.SIGCHLD) || info.Code < 1 || info.Code > cldDumped {
		return false
	}
	return unix.Waitid(unix.P_PID, tid, &info, how, nil) == nil
}

// ArmExitKill sets Options in full on a stopped thread. Seize leaves EXITKILL
// out: until it has stopped, a thread cannot be detached, and has not been
// touched, so the tracer's death must do it no harm.
func ArmExitKill(tid int) error {
	return wrap("set the ptrace options of", tid, ptrace(unix.PTRACE_SETOPTIONS, tid, 0, Options))
}

// Interrupt asks a seized thread to stop. A stop for another reason uses it up;
// one that comes too late stays pending, which makes one more stop later.
func Interrupt(tid int) error {
	return wrap("interrupt", tid, ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0))
}

// Cont lets the stopped thread run, delivering sig (0: none).
func Cont(tid int, sig unix.Signal) error {
	return wrap("continue", tid, ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)))
}

// Detach lets the stopped thread go for good, delivering sig (0: none).
func Detach(tid int, sig unix.Signal) error {
	return wrap("detach", tid, ptrace(unix.PTRACE_DETACH, tid, 0, uintptr(sig)))
}

// Wait blocks until the thread reports.
func Wait(tid int) (Stop, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
		if err == nil {
			return Stop{ws}, nil
		}
		if err != unix.EINTR {
			return Stop{}, fmt.Errorf("wait for thread %d: %w", tid, gone(err))
		}
	}
}

// TryWait waits for the thread to report, at most until the deadline.
func TryWait(tid int, deadline time.Time) (s Stop, ok bool, err error) {
	var ws unix.WaitStatus
	for pause := 5 * time.Microsecond; ; pause = min(2*pause, 500*time.Microsecond) {
		got, err := unix.Wait4(tid, &ws, unix.WALL|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return Stop{}, false, fmt.Errorf("wait for thread %d: %w", tid, gone(err))
		case got == tid:
			return Stop{ws}, true, nil
		case time.Now().After(deadline):
			return Stop{}, false, nil
		}
		nap(pause)
	}
}

// nap sleeps on this very thread: time.Sleep would let the Go scheduler take
// the processor away for longer than a whole freeze lasts.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}

// NewChild returns the host tid of the task made at the PTRACE_EVENT_CLONE,
// FORK or VFORK stop that tid is in.
func NewChild(tid int) (int, error) {
	msg, err := unix.PtraceGetEventMsg(tid)
	return int(msg), wrap("read the event message of", tid, err)
}

func wrap(what string, tid int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s thread %d: %w", what, tid, gone(err))
}

// gone turns the errors of a thread that has vanished into ErrGone.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ECHILD) {
		return ErrGone
	}
	return err
}
