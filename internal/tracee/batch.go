// SPDX-License-Identifier: Apache-2.0

package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Call is one system call for a tracee to make, and its result afterwards.
type Call struct {
	Nr     uint64
	Args   [6]uint64
	Result int64
	Name   string // for messages
	Asks   bool   // whether the kernel knows it: an error is an answer, and none of the batch's
}

// Sys makes a Call.
func Sys(name string, nr uintptr, args ...uint64) *Call {
	c := &Call{Nr: uint64(nr), Name: name}
	copy(c.Args[:], args)
	return c
}

// Err is the error the call returned, if it did.
func (c *Call) Err() error {
	if c.Result < 0 && c.Result >= -4095 {
		return fmt.Errorf("%s: %w", c.Name, unix.Errno(-c.Result))
	}
	return nil
}

const recordSize = 64

// Stub is where a process has the stub's code and an area for its records.
type Stub struct {
	Code     uint64
	Area     uint64
	AreaSize uint64
}

// MaxCalls is how many records fit when room bytes of the area are for data.
func (s Stub) MaxCalls(room uint64) int { return int((s.AreaSize - room) / recordSize) }

// Batch is a batch in one thread.
type Batch struct {
	Tid         int
	Pid         int    // whose memory holds the records
	Base        Regs   // registers to start from (segment bases)
	Records     uint64 // address of the records
	Calls       []*Call
	StopOnError bool
	// Born are the host tids of tasks that the batch has made, in their order.
	// Each of them is a tracee, stopped before its first instruction.
	Born []int
}

// Start writes the records and lets the thread run them.
func (b *Batch) Start(code uint64) error {
	if err := WriteMemory(b.Pid, b.Records, encodeCalls(b.Calls)); err != nil {
		return err
	}
	if err := SetRegs(b.Tid, b.Base.forStub(code, b.Records, len(b.Calls), b.StopOnError)); err != nil {
		return err
	}
	return Cont(b.Tid, 0)
}

// Finish waits for the end of the batch and reads the results.
func (b *Batch) Finish() error {
	for {
		s, err := Wait(b.Tid)
		if err != nil {
			return err
		}
		switch {
		case s.Ended():
			return fmt.Errorf("thread %d %s in a batch: %w", b.Tid, s, ErrGone)
		case s.Event() == unix.PTRACE_EVENT_CLONE, s.Event() == unix.PTRACE_EVENT_FORK, s.Event() == unix.PTRACE_EVENT_VFORK:
			if err := b.adopt(); err != nil {
				return err
			}
		case s.Event() == 0 && s.Signal() == unix.SIGTRAP:
			breakpoint, err := byKernel(b.Tid)
			if err != nil {
				return err
			}
			if !breakpoint {
				keepStray(b.Tid)
			}
			if breakpoint || b.pastEnd() {
				return b.readResults()
			}
		case !sentMeanwhile(b.Tid, s), b.faulted(s):
			return fmt.Errorf("thread %d %s in a batch%s", b.Tid, s, whereFault(b.Tid))
		}
		if err := Cont(b.Tid, passOn(s)); err != nil {
			return err
		}
	}
}

// pastEnd says that the thread has passed the breakpoint at the stub's end: its
// SIGTRAP is not told apart from one that somebody sent just before, since standard
// signals do not queue (signal(7)).
func (b *Batch) pastEnd() bool {
	const int3 = 0xcc
	var before [1]byte
	regs, err := GetRegs(b.Tid)
	return err == nil && ReadMemory(b.Pid, regs.IP()-1, before[:]) == nil && before[0] == int3
}

// faulted says that the stub itself did something forbidden: its records are all
// the memory that it touches.
func (b *Batch) faulted(s Stop) bool {
	if !isFault(s) {
		return false
	}
	info, err := signalInfo(b.Tid)
	end := b.Records + uint64(len(b.Calls)*recordSize)
	return err != nil || b.Records <= info.addr && info.addr < end
}

// whereFault tells, of a thread that a signal stopped, who sent that and where it was.
func whereFault(tid int) string {
	info, err := signalInfo(tid)
	regs, regsErr := GetRegs(tid)
	if err != nil || regsErr != nil {
		return ""
	}
	return fmt.Sprintf(" (code %d, address %#x, at %#x, record %#x, %d left)",
		info.code, info.addr, regs.IP(), regs.Rbx, regs.Rbp)
}

// sentMeanwhile says that somebody sent SIGSTOP: first the signal is reported,
// then the group-stop. The thread goes on with its batch even so, and the kernel
// stops it again when it is let go. Or somebody sent SIGTRAP, which is kept. Or the
// program did something forbidden just before it was stopped, and the signal for that
// waits, blocked: with a SIGTRAP the kernel takes it first all the same
// (dequeue_synchronous_signal in kernel/signal.c).
func sentMeanwhile(tid int, s Stop) bool {
	if s.Event() == 0 && s.Signal() == unix.SIGTRAP {
		keepStray(tid)
		return true
	}
	return s.Event() == unix.PTRACE_EVENT_STOP || s.Event() == 0 && s.Signal() == unix.SIGSTOP || isFault(s)
}

// isFault says that a thread stopped by a signal that the kernel sends to who does
// something forbidden.
func isFault(s Stop) bool {
	if s.Event() != 0 {
		return false
	}
	switch s.Signal() {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGSYS:
		return true
	}
	return false
}

// passOn is the signal that a thread gets after a stop in the middle of a batch:
// SIGSTOP, the only one that cannot be blocked and does not kill, or one for a fault,
// which is blocked and so waits again.
func passOn(s Stop) unix.Signal {
	if s.Event() == 0 && s.Signal() == unix.SIGSTOP || isFault(s) {
		return s.Signal()
	}
	return 0
}

// adopt notes a new task and takes the stop it is born in.
func (b *Batch) adopt() error {
	child, err := NewChild(b.Tid)
	if err != nil {
		return err
	}
	s, err := Wait(child)
	if err != nil {
		return err
	}
	if s.Event() != unix.PTRACE_EVENT_STOP {
		return fmt.Errorf("new task %d %s, not stopped at birth", child, s)
	}
	b.Born = append(b.Born, child)
	return nil
}

func (b *Batch) readResults() error {
	buf := make([]byte, len(b.Calls)*recordSize)
	if err := ReadMemory(b.Pid, b.Records, buf); err != nil {
		return err
	}
	for i, c := range b.Calls {
		c.Result = int64(binary.LittleEndian.Uint64(buf[i*recordSize+56:]))
	}
	return nil
}

func encodeCalls(calls []*Call) []byte {
	buf := make([]byte, 0, len(calls)*recordSize)
	for _, c := range calls {
		buf = binary.LittleEndian.AppendUint64(buf, c.Nr)
		for _, a := range c.Args {
			buf = binary.LittleEndian.AppendUint64(buf, a)
		}
		buf = binary.LittleEndian.AppendUint64(buf, 0)
	}
	return buf
}

// Run runs the calls in the thread and returns the first error among them.
func (b *Batch) Run(code uint64) error {
	if err := b.Start(code); err != nil {
		return err
	}
	return b.Await()
}

// Await waits for the end of a batch and returns the first error among its calls.
func (b *Batch) Await() error {
	if err := b.Finish(); err != nil {
		return err
	}
	for _, c := range b.Calls {
		if err := c.Err(); err != nil && !c.Asks {
			return err
		}
	}
	return nil
}

// SyscallAt makes the stopped thread execute one system call at the syscall
// instruction at ip, without a stub and without a SIGTRAP: between the entry
// stop and the exit stop of PTRACE_SYSCALL. The thread is left at the exit stop.
func SyscallAt(tid int, ip uint64, base Regs, c *Call) error {
	if err := SetRegs(tid, base.forSyscall(ip, c)); err != nil {
		return err
	}
	for range 2 {
		if err := toSyscallStop(tid); err != nil {
			return err
		}
	}
	r, err := GetRegs(tid)
	if err != nil {
		return err
	}
	c.Result = r.Result()
	return c.Err()
}

// Leave lets a stopped thread go for good, to execute one system call from which
// it does not return.
func Leave(tid int, ip uint64, base Regs, c *Call) error {
	if err := SetRegs(tid, base.forSyscall(ip, c)); err != nil {
		return err
	}
	return Detach(tid, 0)
}

func toSyscallStop(tid int) error {
	for sig := unix.Signal(0); ; {
		if err := ptrace(unix.PTRACE_SYSCALL, tid, 0, uintptr(sig)); err != nil {
			return wrap("step", tid, err)
		}
		s, err := Wait(tid)
		if err != nil {
			return err
		}
		switch {
		case s.Syscall():
			return nil
		case s.Ended():
			return fmt.Errorf("thread %d %s: %w", tid, s, ErrGone)
		case !sentMeanwhile(tid, s):
			return fmt.Errorf("thread %d %s, not at a system call", tid, s)
		}
		sig = passOn(s)
	}
}

// Settle brings a stopped thread from a system-call stop to a PTRACE_EVENT_STOP.
// There the kernel, when it lets the thread go, looks at the registers again and
// restarts an interrupted system call; at a system-call stop it would not.
func Settle(tid int) error {
	for sig := unix.Signal(0); ; {
		if err := Interrupt(tid); err != nil { // anew: any stop uses it up
			return err
		}
		if err := Cont(tid, sig); err != nil {
			return err
		}
		s, err := Wait(tid)
		switch {
		case err != nil:
			return err
		case s.Event() == unix.PTRACE_EVENT_STOP:
			return nil
		case s.Ended():
			return fmt.Errorf("thread %d %s: %w", tid, s, ErrGone)
		case !sentMeanwhile(tid, s):
			return fmt.Errorf("thread %d %s, not interrupted", tid, s)
		}
		sig = passOn(s)
	}
}

// EnterWait makes the stopped thread begin a system call that waits, and stops
// it in there: the kernel then has the call's deadline in the thread's restart
// block. Result is RestartBlock, or that of a call that did not have to wait.
// The thread is left at a PTRACE_EVENT_STOP.
func EnterWait(tid int, ip uint64, base Regs, c *Call) error {
	if err := SetRegs(tid, base.forSyscall(ip, c)); err != nil {
		return err
	}
	if err := toSyscallStop(tid); err != nil {
		return err
	}
	if err := Interrupt(tid); err != nil { // ends the wait as soon as it has begun
		return err
	}
	if err := toSyscallStop(tid); err != nil {
		return err
	}
	r, err := GetRegs(tid)
	if err != nil {
		return err
	}
	c.Result = r.Result()
	return Settle(tid) // the stop at the exit has used the interrupt up
}
