// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// numbers is how processes and threads get their numbers where the job has no
// namespace of its own. Three ways, the first that serves:
//
//	chosen      clone3 with set_tid: who has CAP_CHECKPOINT_RESTORE on the host
//	translated  any number; the preload library shows the old one (libids.c)
//	awaited     numbers are used up until the wanted one comes (await.go); for
//	            programs without that library
type numbers struct {
	path      string // of the file for programs that the job executes
	table     *ids.Table
	forbidden bool // set_tid
	translate bool
	waiter    *waiter
}

// real is a number of the job, as a system call of the job takes it.
func real(virtual int) uint64 { return uint64(uint32(int32(ids.Real(virtual)))) }

// chooseNumbers decides, before anything is made, whether the numbers can be
// translated.
func (r *restorer) chooseNumbers() error {
	if !ids.Shim() {
		return nil
	}
	if m := r.meta; len(m.SysvSegments)+len(m.SysvSemaphores)+len(m.SysvQueues)+len(m.PosixQueues) > 0 {
		return &NumbersError{"no namespaces, which the System V objects and message queues of this job need"}
	}
	n := &r.shim
	n.table = &ids.Table{Init: r.init, Exe: map[int]string{}}
	ids.Use(n.table)
	n.translate = true
	count := 0
	for _, p := range r.meta.Processes {
		n.table.Exe[int(p.Pid)] = p.Exe
		count += len(p.Threads)
		if p.State != imagepb.Process_ZOMBIE && (libraryBase(p) == 0 || p.ExactNumbers) {
			n.translate = false
		}
	}
	if count > ids.Most {
		n.translate = false
	}
	if !n.translate {
		return refuseTaken(r.meta)
	}
	return nil
}

// refuseTaken finds numbers that must be had and that somebody has had for long: it
// is no use to wait for these.
func refuseTaken(m *imagepb.Image) error {
	const long = 30 * time.Second
	for _, p := range m.Processes {
		for _, t := range append([]*imagepb.Thread{{Tid: p.Pid}}, p.Threads...) {
			stat, err := procfs.ReadStat(int(t.Tid), 0)
			if err == nil && sinceBoot()-stat.Start() > long {
				return inUseBy(int(t.Tid), stat.Comm)
			}
		}
	}
	return nil
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// libraryBase is where the library that translates is mapped, or 0.
func libraryBase(p *imagepb.Process) uint64 {
	for _, v := range p.Vmas {
		if v.Offset == 0 && v.Kind == imagepb.Vma_FILE && filepath.Base(v.Path) == shim.IDsName() {
			return v.Start
		}
	}
	return 0
}

// cloneAnyhow makes a process or thread that the job knows by id.
func (r *restorer) cloneAnyhow(maker *task, id int, flags, exitSignal uint64) (host int, err error) {
	n := &r.shim
	if !n.forbidden {
		host, err = cloneAs(maker, id, flags, exitSignal)
		n.forbidden = errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)
	}
	if n.forbidden || errors.Is(err, unix.EEXIST) {
		host, err = r.cloneElse(maker, id, flags, exitSignal)
	}
	if err == nil {
		n.table.Pairs = append(n.table.Pairs, ids.Pair{Virtual: int32(id), Real: int32(host)})
	}
	return host, err
}

// cloneElse makes it where numbers cannot be chosen.
func (r *restorer) cloneElse(maker *task, id int, flags, exitSignal uint64) (host int, err error) {
	if r.shim.translate {
		return cloneAs(maker, 0, flags, exitSignal)
	}
	return r.await(maker, id, flags, exitSignal)
}

// await makes it when its number comes up.
func (r *restorer) await(maker *task, id int, flags, exitSignal uint64) (int, error) {
	n := &r.shim
	if n.waiter == nil {
		w, err := newWaiter(r.ctx)
		if err != nil {
			return 0, err
		}
		n.waiter = w
	}
	return n.waiter.until(id,
		func() (int, error) { return cloneAs(maker, 0, flags, exitSignal) },
		func(host int) error { return undoClone(maker, host, flags) })
}

// setShift makes the job's clocks go on from the freeze, for programs that ask
// the preload library for the time, and returns the host's time of that moment.
func (r *restorer) setShift() time.Duration {
	now := freeze.Monotonic()
	var boot unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	t := r.shim.table
	t.Monotonic = time.Duration(r.meta.Clocks.MonotonicNs) - now
	t.Boottime = time.Duration(r.meta.Clocks.BoottimeNs - boot.Nano())
	return now
}

// giveNumbers tells the preload libraries which numbers are which. They are told
// under namespaces too, if they come from a host without: nothing differs then.
func (r *restorer) giveNumbers() error {
	if r.shim.waiter != nil {
		r.shim.waiter.end()
	}
	t := r.shim.table
	if t == nil {
		t = &ids.Table{Init: 1}
	} else if err := t.Write(r.shim.path); err != nil {
		return err
	}
	raw, err := t.Encode()
	if err != nil {
		return err
	}
	at, err := shim.IDsTable()
	if err != nil {
		return err
	}
	jumps := false
	for _, p := range r.live() {
		if base := libraryBase(p.pb); base != 0 {
			if err := errors.Join(tracee.WriteMemory(p.host, base+at, raw), p.tellExe(base)); err != nil {
				return fmt.Errorf("pid %d: tell its numbers: %w", p.pb.Pid, err)
			}
		} else {
			jumps = true
		}
	}
	if jumps && ids.Shim() {
		r.note("programs without the preload library see CLOCK_MONOTONIC jump by %s: this host allows no time namespace",
			-t.Monotonic.Round(time.Millisecond))
	}
	return nil
}

// tellExe tells the library of a process which program it executes, where the kernel
// says another.
func (p *proc) tellExe(base uint64) error {
	at, err := shim.IDsExe()
	if err != nil {
		return err
	}
	path := make([]byte, shim.IDsExeLen)
	if !p.exeNamed && len(p.pb.Exe) < len(path) {
		copy(path, p.pb.Exe)
	}
	return tracee.WriteMemory(p.host, base+at, path)
}

// renumber corrects what an interrupted system call was given: numbers of other
// processes, and deadlines, both of which the kernel counts and not the job.
func (r *restorer) renumber(p *proc, regs *tracee.Regs) error {
	const restarted = 4 // -512, -513, -514, -516
	if res := -regs.Result(); res < 512 || res > 512+restarted || regs.Syscall() < 0 {
		return nil
	}
	switch regs.Syscall() {
	case unix.SYS_WAIT4:
		regs.SetArg(0, r.renumbered(regs.Arg(0)))
	case unix.SYS_WAITID:
		const pPid, pPgid = 1, 2
		if kind := regs.Arg(0); kind == pPid || kind == pPgid {
			regs.SetArg(1, r.renumbered(regs.Arg(1)))
		}
	case unix.SYS_CLOCK_NANOSLEEP:
		if regs.Arg(1)&1 != 0 { // TIMER_ABSTIME
			return r.postpone(p, regs.Arg(0), regs.Arg(2))
		}
	case unix.SYS_FUTEX:
		const command, waitBitset, clockRealtime = 0x7f, 9, 256
		if op := regs.Arg(1); op&command == waitBitset && op&clockRealtime == 0 && regs.Arg(3) != 0 {
			return r.postpone(p, unix.CLOCK_MONOTONIC, regs.Arg(3))
		}
	}
	return nil
}

// renumbered is what the kernel calls now what it called so at the checkpoint;
// negative numbers are process groups.
func (r *restorer) renumbered(arg uint64) uint64 {
	n := int32(arg)
	sign := int32(1)
	if n < 0 {
		sign = -1
	}
	if n == 0 || n == -1 {
		return arg
	}
	for _, p := range r.meta.Processes {
		if p.RawPid == n*sign {
			return uint64(uint32(sign * int32(ids.Real(int(p.Pid)))))
		}
	}
	return uint64(uint32(sign * int32(ids.Real(int(n*sign)))))
}

// postpone moves a deadline that lies in the process's memory, in the time of the
// kernel on the host of the checkpoint, to the time of this kernel. It is in the
// preload library's part of the stack, or in a program that never had a clock but
// the kernel's.
func (r *restorer) postpone(p *proc, clock, at uint64) error {
	was, is := r.meta.Clocks.MonotonicShiftNs, time.Duration(0)
	monotonic, boottime := ids.Shift()
	switch clock {
	case unix.CLOCK_MONOTONIC:
		is = monotonic
	case unix.CLOCK_BOOTTIME:
		was, is = r.meta.Clocks.BoottimeShiftNs, boottime
	default:
		return nil
	}
	later := was - int64(is)
	if later == 0 {
		return nil
	}
	b := make([]byte, 16)
	if err := tracee.ReadMemory(p.host, at, b); err != nil {
		return err
	}
	le := binary.LittleEndian
	ns := int64(le.Uint64(b))*1e9 + int64(le.Uint64(b[8:])) + later
	ns = max(ns, 0)
	le.PutUint64(b, uint64(ns/1e9))
	le.PutUint64(b[8:], uint64(ns%1e9))
	return tracee.WriteMemory(p.host, at, b)
}
