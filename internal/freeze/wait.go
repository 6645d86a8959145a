// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Wait is a relative timed wait that the freeze interrupted.
type Wait struct {
	Syscall   int
	Remaining time.Duration
	At        time.Duration // when Remaining was left, on the host's CLOCK_MONOTONIC
	// Block: the kernel keeps the deadline in the thread's restart block
	// (restart_syscall(2)). It is lost with the thread, so a resumed thread
	// has to wait anew, for Remaining.
	Block bool
}

// Sleeper is a wait that goes on after a thaw. The kernel continues it through
// restart_syscall(2), which hides what it was: the next freeze needs to be told.
type Sleeper struct {
	Tid      int // in the job's namespace
	Syscall  int
	Deadline time.Duration // host's CLOCK_MONOTONIC
	IP, SP   uint64
}

// interrupted says which system call a thread is in, after the stop. Calls that
// the kernel would end with EINTR only because of the tracer are wound back, to
// be issued anew for the time that is left. A signal that is to be handled
// ends them rightly.
func (j *Job) interrupted(t *Thread, deliverable bool, known []Sleeper) {
	r := &t.Regs
	nr := r.Syscall()
	if nr < 0 {
		return
	}
	switch r.Result() {
	case tracee.RestartBlock:
		j.restartBlock(t, known)
	case -int64(unix.EINTR):
		if wait, ok := endedByTracer[nr]; ok && !deliverable {
			if wait.timeout != nil {
				j.shorten(t, nr, wait)
			}
			r.Rewind()
		}
	}
}

// restartBlock works out how long a wait of the restart-block kind has to go on.
func (j *Job) restartBlock(t *Thread, known []Sleeper) {
	now := Monotonic()
	w := &Wait{Syscall: t.Regs.Syscall(), At: now, Block: true}
	t.Wait = w
	if w.Syscall == unix.SYS_RESTART_SYSCALL {
		for _, k := range known {
			if k.Tid == t.Tid && k.IP == t.Regs.IP() && k.SP == t.Regs.Rsp && k.Deadline > now {
				w.Syscall, w.Remaining = k.Syscall, forever
				if k.Deadline != forever {
					w.Remaining = k.Deadline - now
				}
				return
			}
		}
		w.Syscall = guessRestarted(t)
	}
	if left, ok := remainder(t, w.Syscall); ok {
		w.Remaining = left
		return
	}
	w.Remaining = forever
	if ask, ok := requested(t, w.Syscall); ok {
		w.Remaining = max(ask-j.sleep.elapsed(t), 0)
	}
}

// forever is a wait without a timeout, such as poll(2) with -1.
const forever = time.Duration(math.MaxInt64)

// remainder reads what the kernel wrote through the second pointer of
// nanosleep(2) or the last of clock_nanosleep(2) when it was interrupted.
func remainder(t *Thread, nr int) (time.Duration, bool) {
	var at uint64
	switch nr {
	case unix.SYS_NANOSLEEP:
		at = t.Regs.Arg(1)
	case unix.SYS_CLOCK_NANOSLEEP:
		at = t.Regs.Arg(3)
	}
	if at == 0 {
		return 0, false
	}
	return readTimespec(t.HostTid, at)
}

// requested is the timeout that the program gave.
func requested(t *Thread, nr int) (time.Duration, bool) {
	r := &t.Regs
	switch nr {
	case unix.SYS_NANOSLEEP:
		return readTimespec(t.HostTid, r.Arg(0))
	case unix.SYS_CLOCK_NANOSLEEP:
		return readTimespec(t.HostTid, r.Arg(2))
	case unix.SYS_POLL:
		return millis(r.Arg(2))
	case unix.SYS_FUTEX:
		if r.Arg(3) == 0 {
			return 0, false
		}
		// FUTEX_WAIT is relative. FUTEX_WAIT_BITSET is absolute, and issued
		// anew as it is; its restart block matters just as little.
		if r.Arg(1)&futexCommandMask == futexWait {
			return readTimespec(t.HostTid, r.Arg(3))
		}
	}
	return 0, false
}

const (
	futexCommandMask = 127
	futexFlags       = 0x180 // FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
	futexWait        = 0
	futexWaitBitset  = 9
)

// guessRestarted finds the system call behind a restart_syscall(2) that is not
// known from before. Only four calls use restart blocks. The instruction before
// the system call loads the number, in libc as in Go; where it does not, the
// arguments, still in the registers, tell.
func guessRestarted(t *Thread) int {
	const movEAX, insnLen = 0xb8, 7 // mov $imm32,%eax; syscall
	code := make([]byte, insnLen)
	if tracee.ReadMemory(t.HostTid, t.Regs.IP()-insnLen, code) == nil && code[0] == movEAX {
		switch nr := int(binary.LittleEndian.Uint32(code[1:])); nr {
		case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_POLL, unix.SYS_FUTEX:
			return nr
		}
	}
	op := t.Regs.Arg(1) &^ futexFlags
	switch {
	case t.Regs.Arg(0) < 32:
		return unix.SYS_CLOCK_NANOSLEEP
	case op == futexWaitBitset, op == futexWait && t.Regs.Arg(3) != 0:
		return unix.SYS_FUTEX
	case t.Regs.Arg(1) < 1<<16:
		return unix.SYS_POLL
	}
	return unix.SYS_NANOSLEEP
}

// timed is a wait that the kernel ends with EINTR when a tracer interrupts it.
type timed struct {
	timeout func(t *Thread) (time.Duration, bool)
	// set puts a shorter timeout in its place.
	set func(t *Thread, d time.Duration) error
}

// endedByTracer are the calls that end with EINTR even though no handler ran
// (measured; also in signal(7) under "EINTR with SA_RESTART").
var endedByTracer = map[int]timed{
	unix.SYS_EPOLL_WAIT:      {millisArg(3), setMillis(3)},
	unix.SYS_EPOLL_PWAIT:     {millisArg(3), setMillis(3)},
	unix.SYS_EPOLL_PWAIT2:    {timespecArg(3), setTimespec(3)},
	unix.SYS_SEMOP:           {},
	unix.SYS_SEMTIMEDOP:      {timespecArg(3), setTimespec(3)},
	unix.SYS_RT_SIGTIMEDWAIT: {timespecArg(2), setTimespec(2)},
	unix.SYS_IO_GETEVENTS:    {timespecArg(4), setTimespec(4)},
	unix.SYS_IO_PGETEVENTS:   {timespecArg(4), setTimespec(4)},
	// Sockets with SO_RCVTIMEO or SO_SNDTIMEO; without they restart by themselves.
	unix.SYS_RECVFROM: {},
	unix.SYS_RECVMSG:  {},
	unix.SYS_RECVMMSG: {},
	unix.SYS_SENDTO:   {},
	unix.SYS_SENDMSG:  {},
	unix.SYS_READ:     {},
	unix.SYS_WRITE:    {},
	unix.SYS_READV:    {},
	unix.SYS_WRITEV:   {},
	unix.SYS_CONNECT:  {},
	unix.SYS_ACCEPT:   {},
	unix.SYS_ACCEPT4:  {},
	unix.SYS_MSGRCV:   {},
	unix.SYS_MSGSND:   {},
}

// Shorten puts what is left of the timeout into the registers of a thread that
// is about to issue a wait of the endedByTracer kind.
func Shorten(hostTid int, regs *tracee.Regs, nr int, left time.Duration) error {
	w := endedByTracer[nr]
	if w.set == nil {
		return fmt.Errorf("system call %d is not one that waits", nr)
	}
	t := &Thread{HostTid: hostTid, Regs: *regs}
	err := w.set(t, left)
	*regs = t.Regs
	return err
}

// updated are the calls whose remaining time the kernel writes to where the
// program gave it when they are interrupted (select(2), "Linux notes"), by the
// argument that points there and what a unit of its second word is.
var updated = map[int]struct {
	arg  int
	unit time.Duration
}{
	unix.SYS_SELECT:   {4, time.Microsecond},
	unix.SYS_PSELECT6: {4, time.Nanosecond},
	unix.SYS_PPOLL:    {2, time.Nanosecond},
}

// Age takes the time that went by between the freeze and the resume off a wait
// that the kernel issues anew with what it wrote to the program's memory.
func Age(hostTid int, regs *tracee.Regs, by time.Duration) error {
	u, ok := updated[regs.Syscall()]
	if !ok || regs.Result() != tracee.RestartNoHand || regs.Arg(u.arg) == 0 {
		return nil
	}
	at := regs.Arg(u.arg)
	buf := make([]byte, 16)
	if err := tracee.ReadMemory(hostTid, at, buf); err != nil {
		return err
	}
	sec, part := binary.LittleEndian.Uint64(buf), binary.LittleEndian.Uint64(buf[8:])
	if sec > uint64(forever/time.Second)-1 {
		return nil
	}
	left := max(time.Duration(sec)*time.Second+time.Duration(part)*u.unit-by, 0)
	binary.LittleEndian.PutUint64(buf, uint64(left/time.Second))
	binary.LittleEndian.PutUint64(buf[8:], uint64(left%time.Second/u.unit))
	return tracee.WriteMemory(hostTid, at, buf)
}

// shorten leaves the wait only the time it still had.
func (j *Job) shorten(t *Thread, nr int, w timed) {
	ask, ok := w.timeout(t)
	if !ok {
		return
	}
	left := max(ask-j.sleep.elapsed(t), 0)
	t.Wait = &Wait{Syscall: nr, Remaining: left, At: Monotonic()}
	// A timeout that cannot be written stays what it was: the wait is longer,
	// never wrong.
	_ = w.set(t, left)
}

func millis(v uint64) (time.Duration, bool) {
	ms := int32(v)
	return time.Duration(ms) * time.Millisecond, ms >= 0
}

func millisArg(i int) func(*Thread) (time.Duration, bool) {
	return func(t *Thread) (time.Duration, bool) { return millis(t.Regs.Arg(i)) }
}

func setMillis(i int) func(*Thread, time.Duration) error {
	return func(t *Thread, d time.Duration) error {
		t.Regs.SetArg(i, uint64((d+time.Millisecond-1)/time.Millisecond))
		return nil
	}
}

func timespecArg(i int) func(*Thread) (time.Duration, bool) {
	return func(t *Thread) (time.Duration, bool) {
		if t.Regs.Arg(i) == 0 {
			return 0, false
		}
		return readTimespec(t.HostTid, t.Regs.Arg(i))
	}
}

// setTimespec points argument i at a timespec of ours below the stack's red
// zone (128 bytes, x86-64 psABI 3.2.2), because the program's own may be
// constant. The kernel reads it as soon as the thread runs.
func setTimespec(i int) func(*Thread, time.Duration) error {
	const belowRedZone = 512
	return func(t *Thread, d time.Duration) error {
		at := (t.Regs.Rsp - belowRedZone) &^ 15
		buf := binary.LittleEndian.AppendUint64(nil, uint64(d/time.Second))
		buf = binary.LittleEndian.AppendUint64(buf, uint64(d%time.Second))
		if err := tracee.WriteMemory(t.HostTid, at, buf); err != nil {
			return err
		}
		t.Regs.SetArg(i, at)
		return nil
	}
}

func readTimespec(tid int, at uint64) (time.Duration, bool) {
	buf := make([]byte, 16)
	if tracee.ReadMemory(tid, at, buf) != nil {
		return 0, false
	}
	sec, nsec := int64(binary.LittleEndian.Uint64(buf)), int64(binary.LittleEndian.Uint64(buf[8:]))
	if sec < 0 || sec > math.MaxInt64/int64(time.Second)-1 {
		return 0, false
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec), true
}

// Sleepers are the waits that go on after a thaw.
func (j *Job) Sleepers() []Sleeper {
	var all []Sleeper
	for _, p := range j.Processes {
		for _, t := range p.Threads {
			all = t.appendSleeper(all)
		}
	}
	return all
}

func (t *Thread) appendSleeper(all []Sleeper) []Sleeper {
	if t.Wait == nil || !t.Wait.Block {
		return all
	}
	s := Sleeper{Tid: t.Tid, Syscall: t.Wait.Syscall, Deadline: forever, IP: t.Regs.IP(), SP: t.Regs.Rsp}
	if t.Wait.Remaining < forever-t.Wait.At {
		s.Deadline = t.Wait.At + t.Wait.Remaining
	}
	return append(all, s)
}

// Monotonic is the host's CLOCK_MONOTONIC.
func Monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// sleepTimes knows since when threads sleep: from the scheduler, which notes
// when each was last on a CPU. It is looked at before the freeze, because the
// freeze wakes them.
type sleepTimes map[int]asleep

type asleep struct {
	since    time.Time
	switches uint64
}

// elapsed is how long the thread had been in its present wait at the time of
// the freeze. A thread that was not asleep when lookAtSleepers looked has only
// just begun.
func (s sleepTimes) elapsed(t *Thread) time.Duration {
	a, ok := s[t.HostTid]
	if !ok {
		return 0
	}
	// From sleep straight to the tracer's stop is one switch. More: it had run.
	if now, err := procfs.ReadSched(t.foreign, t.HostTid); err != nil || now.VoluntarySwitches > a.switches+1 {
		return 0
	}
	return max(time.Since(a.since), 0)
}
