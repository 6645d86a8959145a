// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Numbers of prctl(2) that golang.org/x/sys/unix does not have.
const (
	prGetTidAddress = 40
	sigsetSize      = 8
	signals         = 64
	noPersonality   = 0xffffffff // asks personality(2) for the present one
	itimerLen       = 32
	sigactionLen    = 32
)

// Places in the record area: records first, results from dataAt on.
const dataAt = 64 << 10

// fromInside asks the process what only it can tell, in one batch.
func (d *Dump) fromInside(q *process, pb *imagepb.Process) error {
	timers, err := procfs.ReadTimers(q.Eye)
	if err != nil {
		return err
	}
	at := q.stub.Area + dataAt
	var calls []*tracee.Call
	add := func(c *tracee.Call) *tracee.Call {
		calls = append(calls, c)
		return c
	}
	actions := at
	for s := uint64(1); s <= signals; s++ {
		add(tracee.Sys("rt_sigaction", unix.SYS_RT_SIGACTION, s, 0, at, sigsetSize))
		at += sigactionLen
	}
	itimers := at
	for which := uint64(0); which < 3; which++ {
		add(tracee.Sys("getitimer", unix.SYS_GETITIMER, which, at))
		at += itimerLen
	}
	posix := at
	var overruns []*tracee.Call
	for _, t := range timers {
		add(tracee.Sys("timer_gettime", unix.SYS_TIMER_GETTIME, uint64(t.ID), at))
		overruns = append(overruns, add(tracee.Sys("timer_getoverrun", unix.SYS_TIMER_GETOVERRUN, uint64(t.ID))))
		at += itimerLen
	}
	subreaper := at
	add(tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, at))
	at += 8
	dumpable := add(tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE))
	thp := add(tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_GET_THP_DISABLE))
	persona := add(tracee.Sys("personality", unix.SYS_PERSONALITY, noPersonality))
	brk := add(tracee.Sys("brk", unix.SYS_BRK))
	habits := newHabits(add, at)
	at += 8
	if len(calls) > q.stub.MaxCalls(q.stub.AreaSize-dataAt) || at > q.stub.Area+q.stub.AreaSize {
		return &RefusedError{Reasons: []string{fmt.Sprintf("pid %d has %d POSIX timers, more than can be carried", q.Pid, len(timers))}}
	}
	if err := q.batch(q.Leader(), 0, calls...).Run(q.stub.Code); err != nil {
		return err
	}
	out := make([]byte, at-q.stub.Area-dataAt)
	if err := q.mem.ReadAt(out, q.stub.Area+dataAt); err != nil {
		return err
	}
	out = out[actions-q.stub.Area-dataAt:]
	for s := range signals {
		pb.Sigactions = append(pb.Sigactions, decodeSigaction(out[s*sigactionLen:]))
	}
	q.trap = pb.Sigactions[unix.SIGTRAP-1]
	out = out[itimers-actions:]
	for which := range 3 {
		pb.Itimers = append(pb.Itimers, decodeItimer(out[which*itimerLen:], 1000))
	}
	pb.Itimers[unix.ITIMER_REAL].ValueNs = d.leftThen(pb.Itimers[unix.ITIMER_REAL].ValueNs)
	out = out[posix-itimers:]
	for i, t := range timers {
		pb.PosixTimers = append(pb.PosixTimers, d.posixTimer(q, t, out[i*itimerLen:], overruns[i].Result))
	}
	pb.ChildSubreaper = le32(out[subreaper-posix:]) != 0
	pb.Dumpable, pb.ThpDisable = uint32(dumpable.Result), thp.Result != 0
	if q.undumpable {
		pb.Dumpable = 0
	}
	pb.Personality, pb.Mm.Brk = uint32(persona.Result), uint64(brk.Result)
	habits.describe(pb, out[subreaper+8-posix:])
	return nil
}

// decodeSigaction reads the kernel's struct: handler, flags, restorer, mask.
func decodeSigaction(b []byte) *imagepb.SigAction {
	return &imagepb.SigAction{Handler: le64(b), Flags: le64(b[8:]), Restorer: le64(b[16:]), Mask: le64(b[24:])}
}

func encodeSigaction(a *imagepb.SigAction) []byte {
	var b []byte
	for _, w := range []uint64{a.Handler, a.Flags, a.Restorer, a.Mask} {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

const sigIgn = 1

// decodeItimer reads an interval and a value: struct itimerval in microseconds
// (unit 1000) or struct itimerspec in nanoseconds (unit 1).
func decodeItimer(b []byte, unit int64) *imagepb.Itimer {
	ns := func(b []byte) int64 { return int64(le64(b))*1e9 + int64(le64(b[8:]))*unit }
	return &imagepb.Itimer{IntervalNs: ns(b), ValueNs: ns(b[16:])}
}

func (d *Dump) posixTimer(q *process, t procfs.Timer, b []byte, overrun int64) *imagepb.PosixTimer {
	it := decodeItimer(b, 1)
	pb := &imagepb.PosixTimer{
		Id: int32(t.ID), Clockid: int32(t.ClockID), Notify: int32(t.Notify), Signo: int32(t.Signal), Sigval: t.Sigval,
		ValueNs: it.ValueNs, IntervalNs: it.IntervalNs, Overrun: int32(max(overrun, 0)),
	}
	if t.ClockID >= 0 && t.ClockID != unix.CLOCK_PROCESS_CPUTIME_ID && t.ClockID != unix.CLOCK_THREAD_CPUTIME_ID {
		pb.ValueNs = d.leftThen(pb.ValueNs)
	}
	for _, th := range q.Threads {
		if th.HostTid == t.NotifyTid {
			pb.Tid = int32(th.Tid)
		}
	}
	return pb
}

// Each thread's slot of the area in collectThreads.
const (
	threadCalls = 4
	threadSlot  = threadCalls*64 + 64
)

// collectThreads asks every thread for what is its own, many at a time.
func (d *Dump) collectThreads(q *process, pb *imagepb.Process) error {
	perWave := int(q.stub.AreaSize / threadSlot)
	for from := 0; from < len(q.Threads); from += perWave {
		wave := q.Threads[from:min(from+perWave, len(q.Threads))]
		threads, err := q.askThreads(wave, d.clocksAt)
		if err != nil {
			return err
		}
		pb.Threads = append(pb.Threads, threads...)
	}
	return nil
}

func (q *process) askThreads(wave []*freeze.Thread, clocks time.Duration) ([]*imagepb.Thread, error) {
	batches := make([]*tracee.Batch, len(wave))
	for i, t := range wave {
		at := uint64(i) * threadSlot
		data := q.stub.Area + at + threadCalls*64
		batches[i] = q.batch(t, at,
			tracee.Sys("sigaltstack", unix.SYS_SIGALTSTACK, 0, data),
			tracee.Sys("prctl", unix.SYS_PRCTL, prGetTidAddress, data+32),
			tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_GET_PDEATHSIG, data+40),
			tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK))
	}
	if err := runAll(batches, q.stub.Code); err != nil {
		return nil, err
	}
	var all []*imagepb.Thread
	for i, t := range wave {
		pb, err := q.describeThread(t, clocks)
		if err != nil {
			return nil, fmt.Errorf("thread %d: %w", t.Tid, err)
		}
		out := make([]byte, 64)
		if err := q.mem.ReadAt(out, batches[i].Records+threadCalls*64); err != nil {
			return nil, err
		}
		pb.AltstackSp, pb.AltstackFlags, pb.AltstackSize = le64(out), le32(out[8:]), le64(out[16:])
		pb.ClearChildTid, pb.Pdeathsig = le64(out[32:]), int32(le32(out[40:]))
		pb.TimerslackNs = uint64(batches[i].Calls[3].Result)
		all = append(all, pb)
	}
	return all, nil
}

// runAll runs batches at the same time, each in its thread. It leaves none in
// the middle of its batch, whatever happens to another.
func runAll(batches []*tracee.Batch, code uint64) error {
	var first error
	started := 0
	for _, b := range batches {
		if first = b.Start(code); first != nil {
			break
		}
		started++
	}
	for _, b := range batches[:started] {
		if err := b.Finish(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// describeThread reads what ptrace and /proc tell of a thread.
func (q *process) describeThread(t *freeze.Thread, clocks time.Duration) (*imagepb.Thread, error) {
	stat, err := procfs.ReadStat(q.HostPid, t.HostTid)
	if err != nil {
		return nil, err
	}
	pb := &imagepb.Thread{
		Tid: int32(t.Tid), RawTid: rawOf(t.Raw), Comm: stat.Comm, Gpregs: t.Regs.Encode(), Sigmask: t.Sigmask,
		Nice: int32(stat.Nice), Policy: uint32(stat.Policy), RtPriority: uint32(stat.RtPriority),
		NoNewPrivs: t.Status.NoNewPrivs, WaitSyscall: -1,
	}
	if t.Wait != nil {
		pb.WaitSyscall, pb.WaitRemainingNs = int32(t.Wait.Syscall), waitThen(t.Wait, clocks)
	}
	if pb.Xstate, err = tracee.Xstate(t.HostTid); err != nil {
		return nil, err
	}
	if amxTiles(pb.Xstate) {
		return nil, &RefusedError{Reasons: []string{fmt.Sprintf("thread %d (%s) of pid %d computes with AMX tiles just now, which are not carried yet: "+
			"try again later, or start the program so that it does without (ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16)", t.Tid, stat.Comm, q.Pid)}}
	}
	if pb.Pending, err = pending(t.HostTid, false); err != nil {
		return nil, err
	}
	if pb.RobustList, pb.RobustListLen, err = tracee.RobustList(t.HostTid); err != nil {
		return nil, err
	}
	rseq, err := tracee.RseqConfig(t.HostTid)
	if err != nil {
		return nil, err
	}
	pb.RseqPtr, pb.RseqSize, pb.RseqSig = rseq.Ptr, rseq.Size, rseq.Sig
	if attr, err := unix.SchedGetAttr(t.HostTid, 0); err == nil {
		const resetOnFork = 1
		pb.SchedFlags = attr.Flags & resetOnFork
		if pb.Policy != 0 || pb.SchedFlags != 0 {
			pb.SchedRuntimeNs = attr.Runtime
		}
	}
	if own := q.places[t.Tid]; own != nil {
		pb.Fs, pb.FsOf = own.place, int32(own.of)
	}
	if pb.Affinity, err = q.ownAffinity(&t.Status); err != nil {
		return nil, err
	}
	pb.Ioprio, err = ioprio(t.HostTid)
	return pb, err
}

// ownAffinity is the thread's affinity where it differs from what the job was
// given, which is the init's: what it was given elsewhere is no wish of its.
func (q *process) ownAffinity(status *procfs.Status) ([]uint32, error) {
	if status.CpusAllowedList == q.given {
		return nil, nil
	}
	cpus, err := status.CPUs()
	var all []uint32
	for _, c := range cpus {
		all = append(all, uint32(c))
	}
	return all, err
}

// ioprio reads the I/O priority, see ioprio_set(2).
func ioprio(tid int) (uint32, error) {
	const whoProcess = 1
	v, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(tid), 0)
	if errno != 0 {
		return 0, fmt.Errorf("read the I/O priority: %w", errno)
	}
	return uint32(v), nil
}
