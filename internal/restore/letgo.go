// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// letGo removes the last of ours from the processes, sets all registers, and
// lets every thread run. Only here does the program begin to run again.
func (r *restorer) letGo() error {
	for _, p := range r.live() {
		if err := p.tellShim(); err != nil {
			return fmt.Errorf("pid %d: %w", p.pb.Pid, err)
		}
		if err := r.setRegisters(p); err != nil {
			return fmt.Errorf("pid %d: %w", p.pb.Pid, err)
		}
	}
	for _, p := range r.live() {
		for _, t := range p.threads {
			// What runs already may have ended what does not yet.
			if err := tracee.Detach(t.host, 0); err != nil && !errors.Is(err, tracee.ErrGone) {
				return fmt.Errorf("pid %d: %w", p.pb.Pid, err)
			}
		}
	}
	return nil
}

// tellShim tells the preload library, and so esky_generation() and callbacks,
// that this is a resumed process; esky_abi.h has the protocol.
func (p *proc) tellShim() error {
	if p.pb.ShimBase == 0 || !p.mapsOurLibrary() {
		return nil
	}
	layout, err := shim.Layout()
	if err != nil {
		return err
	}
	at := p.pb.ShimBase + layout.State
	buf := make([]byte, shim.StateSize)
	if err := tracee.ReadMemory(p.host, at, buf); err != nil {
		return err
	}
	state, err := shim.ParseState(buf)
	if err != nil {
		return err
	}
	for offset, v := range map[uint64]uint32{
		shim.OffGeneration: state.Generation + 1, shim.OffResult: 0, shim.OffWaiting: 0,
		shim.OffPublished: state.Request, shim.OffVerdict: shim.VerdictResumed,
	} {
		if err := tracee.WriteMemory(p.host, at+offset, binary.LittleEndian.AppendUint32(nil, v)); err != nil {
			return err
		}
	}
	return nil
}

func (p *proc) mapsOurLibrary() bool {
	for _, v := range p.pb.Vmas {
		if v.Start == p.pb.ShimBase {
			return filepath.Base(v.Path) == shim.Name()
		}
	}
	return false
}

// setRegisters enters interrupted waits again, takes the stub out of the
// process and gives each thread its own registers.
func (r *restorer) setRegisters(p *proc) error {
	final := make([]tracee.Regs, len(p.threads))
	for i, t := range p.threads {
		pb := p.pb.Threads[i]
		regs, err := tracee.DecodeRegs(pb.Gpregs)
		if err != nil {
			return err
		}
		if err := r.renumber(p, &regs); err != nil {
			return fmt.Errorf("thread %d: %w", pb.Tid, err)
		}
		if pb.WaitSyscall >= 0 {
			if err := r.wait(p, t, pb, &regs); err != nil {
				return fmt.Errorf("thread %d: wait again: %w", pb.Tid, err)
			}
		} else if err := freeze.Age(t.host, &regs, r.since()); err != nil {
			return fmt.Errorf("thread %d: shorten its wait: %w", pb.Tid, err)
		}
		final[i] = regs
	}
	if err := p.removeStub(); err != nil {
		return err
	}
	if p.mainEnded() {
		if err := p.endMain(); err != nil {
			return fmt.Errorf("end the main thread: %w", err)
		}
	}
	for i, t := range p.threads {
		pb := p.pb.Threads[i]
		if err := tracee.SetXstate(t.host, pb.Xstate); err != nil {
			return err
		}
		if err := tracee.SetRegs(t.host, final[i]); err != nil {
			return err
		}
		if err := tracee.SetSigmask(t.host, pb.Sigmask); err != nil {
			return err
		}
	}
	return nil
}

// wait makes a thread wait for the time that its interrupted system call still
// had. The kernel keeps the deadline in a restart block, which died with the old
// thread: so the new one enters the call, with the remaining time, and is
// stopped in there. With the old registers, it then goes on as after any stop.
func (r *restorer) wait(p *proc, t *task, pb *imagepb.Thread, regs *tracee.Regs) error {
	nr := int(pb.WaitSyscall)
	left := r.left(pb.WaitRemainingNs)
	if regs.Result() != tracee.RestartBlock {
		return freeze.Shorten(t.host, regs, nr, time.Duration(left))
	}
	regs.SetSyscall(nr)
	if pb.WaitRemainingNs == math.MaxInt64 { // no timeout, or an absolute one
		regs.Rewind()
		return nil
	}
	s := t.script()
	timespec := s.words(uint64(left/1e9), uint64(left%1e9))
	if err := tracee.WriteMemory(t.pid, s.dataAt(), s.data); err != nil {
		return err
	}
	call := tracee.Sys("wait", uintptr(nr))
	for i := range call.Args {
		call.Args[i] = regs.Arg(i)
	}
	switch nr {
	case unix.SYS_NANOSLEEP:
		call.Args[0] = timespec
	case unix.SYS_CLOCK_NANOSLEEP:
		call.Args[2] = timespec
	case unix.SYS_FUTEX:
		call.Args[3] = timespec
	case unix.SYS_POLL:
		call.Args[2] = uint64((left + 999999) / 1e6)
	default:
		return fmt.Errorf("system call %d is not one that waits", nr)
	}
	if err := tracee.EnterWait(t.host, p.insn, t.regs, call); err != nil {
		return err
	}
	regs.SetResult(call.Result)
	if call.Result != tracee.RestartBlock {
		regs.SetSyscall(-1) // it is over
		return nil
	}
	r.asleep = append(r.asleep, freeze.Sleeper{
		Tid: int(pb.Tid), Syscall: nr, Deadline: freeze.Monotonic() + time.Duration(left), IP: regs.IP(), SP: regs.Rsp,
	})
	return nil
}

// removeStub unmaps the stub, by a system call instruction that stays.
func (p *proc) removeStub() error {
	if p.insn == 0 {
		return fmt.Errorf("it has no vDSO by which to leave it")
	}
	leader := p.task
	if trap := p.pb.Sigactions[unix.SIGTRAP-1]; trap.Handler == sigIgn {
		s := leader.script()
		at := s.words(trap.Handler, trap.Flags, trap.Restorer, trap.Mask)
		if err := tracee.WriteMemory(leader.pid, s.dataAt(), s.data); err != nil {
			return err
		}
		act := tracee.Sys("sigaction", unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), at, 0, sigsetSize)
		if err := tracee.SyscallAt(leader.host, p.insn, leader.regs, act); err != nil {
			return err
		}
	}
	if err := p.queueTraps(); err != nil {
		return err
	}
	munmap := tracee.Sys("munmap", unix.SYS_MUNMAP, p.stub, stubLen)
	if err := tracee.SyscallAt(leader.host, p.insn, leader.regs, munmap); err != nil {
		return err
	}
	return tracee.Settle(leader.host)
}
