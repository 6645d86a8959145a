// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// words puts numbers into the memory of this process, which stands in for a
// tracee, and returns their address.
func words(t *testing.T, v ...uint64) uint64 {
	t.Helper()
	b := make([]byte, 8*len(v))
	for i, w := range v {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	var pin runtime.Pinner
	pin.Pin(&b[0])
	t.Cleanup(pin.Unpin)
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}

func thread(nr int, args ...uint64) *Thread {
	t := &Thread{HostTid: os.Getpid(), foreign: os.Getpid()}
	t.Regs.SetSyscall(nr)
	for i, a := range args {
		t.Regs.SetArg(i, a)
	}
	return t
}

func TestRequested(t *testing.T) {
	threeAndAHalf := words(t, 3, 500_000_000)
	negative := words(t, ^uint64(0), 0)
	endless := words(t, math.MaxInt64, 0)
	for name, c := range map[string]struct {
		t    *Thread
		want time.Duration
		ok   bool
	}{
		"nanosleep":                     {thread(unix.SYS_NANOSLEEP, threeAndAHalf), 3500 * time.Millisecond, true},
		"nanosleep of nothing readable": {thread(unix.SYS_NANOSLEEP, 8), 0, false},
		"nanosleep of a negative time":  {thread(unix.SYS_NANOSLEEP, negative), 0, false},
		"nanosleep for ever":            {thread(unix.SYS_NANOSLEEP, endless), 0, false},
		"clock_nanosleep":               {thread(unix.SYS_CLOCK_NANOSLEEP, 1, 0, threeAndAHalf), 3500 * time.Millisecond, true},
		"poll":                          {thread(unix.SYS_POLL, 0, 0, 1500), 1500 * time.Millisecond, true},
		"poll for ever":                 {thread(unix.SYS_POLL, 0, 0, 0xffffffff), 0, false},
		"futex":                         {thread(unix.SYS_FUTEX, 0, 128, 0, threeAndAHalf), 3500 * time.Millisecond, true},
		"futex for ever":                {thread(unix.SYS_FUTEX, 0, 128, 0, 0), 0, false},
		"futex until":                   {thread(unix.SYS_FUTEX, 0, 128|futexWaitBitset, 0, threeAndAHalf), 0, false},
		"something else":                {thread(unix.SYS_READ, threeAndAHalf, threeAndAHalf, threeAndAHalf), 0, false},
	} {
		got, ok := requested(c.t, c.t.Regs.Syscall())
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %v %v, want %v %v", name, got, ok, c.want, c.ok)
		}
	}
}

func TestRemainder(t *testing.T) {
	left := words(t, 1, 250_000_000)
	for name, c := range map[string]struct {
		t  *Thread
		ok bool
	}{
		"nanosleep":               {thread(unix.SYS_NANOSLEEP, 0, left), true},
		"nanosleep without":       {thread(unix.SYS_NANOSLEEP, left, 0), false},
		"clock_nanosleep":         {thread(unix.SYS_CLOCK_NANOSLEEP, 0, 0, 0, left), true},
		"clock_nanosleep without": {thread(unix.SYS_CLOCK_NANOSLEEP, left, left, left, 0), false},
		"poll":                    {thread(unix.SYS_POLL, left, left, left, left), false},
	} {
		got, ok := remainder(c.t, c.t.Regs.Syscall())
		if ok != c.ok || ok && got != 1250*time.Millisecond {
			t.Errorf("%s: %v %v", name, got, ok)
		}
	}
}

func TestGuessRestarted(t *testing.T) {
	code := func(nr byte) uint64 { // mov $nr,%eax; syscall; and where it returns to
		return words(t, 0x050f000000_00_b8|uint64(nr)<<8, 0) + 7
	}
	for name, c := range map[string]struct {
		ip   uint64
		args [6]uint64
		want int
	}{
		"by the code before: nanosleep":        {code(unix.SYS_NANOSLEEP), [6]uint64{}, unix.SYS_NANOSLEEP},
		"by the code before: poll":             {code(unix.SYS_POLL), [6]uint64{}, unix.SYS_POLL},
		"by the code before: futex":            {code(unix.SYS_FUTEX), [6]uint64{}, unix.SYS_FUTEX},
		"no call that waits: clock_nanosleep":  {code(unix.SYS_READ), [6]uint64{1, 0, 0x7000}, unix.SYS_CLOCK_NANOSLEEP},
		"by the arguments: clock_nanosleep":    {8, [6]uint64{1, 0, 0x7000}, unix.SYS_CLOCK_NANOSLEEP},
		"by the arguments: futex":              {8, [6]uint64{0x7000, 128, 1, 0x7010}, unix.SYS_FUTEX},
		"by the arguments: futex of realtime":  {8, [6]uint64{0x7000, futexWaitBitset | futexFlags, 1, 0x7010}, unix.SYS_FUTEX},
		"by the arguments: poll":               {8, [6]uint64{0x7000, 2, 100}, unix.SYS_POLL},
		"by the arguments: nanosleep with rem": {8, [6]uint64{0x7fff0000, 0x7fff0010}, unix.SYS_NANOSLEEP},
	} {
		th := thread(unix.SYS_RESTART_SYSCALL, c.args[:]...)
		th.Regs.SetIP(c.ip)
		if got := guessRestarted(th); got != c.want {
			t.Errorf("%s: system call %d, want %d", name, got, c.want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ts := words(t, 2, 0)
	for name, c := range map[string]struct {
		t           *Thread
		result      int64
		deliverable bool
		rewound     bool
		wait        *Wait
	}{
		"no system call":                {thread(-1), 7, false, false, nil},
		"one that has ended":            {thread(unix.SYS_EPOLL_WAIT), 1, false, false, nil},
		"one that restarts":             {thread(unix.SYS_READ), tracee.RestartSys, false, false, nil},
		"epoll_wait, for ever":          {thread(unix.SYS_EPOLL_WAIT, 0, 0, 0, 0xffffffff), -int64(unix.EINTR), false, true, nil},
		"epoll_wait, timed":             {thread(unix.SYS_EPOLL_WAIT, 0, 0, 0, 2000), -int64(unix.EINTR), false, true, &Wait{Syscall: unix.SYS_EPOLL_WAIT, Remaining: 2 * time.Second}},
		"epoll_wait, and a signal":      {thread(unix.SYS_EPOLL_WAIT, 0, 0, 0, 2000), -int64(unix.EINTR), true, false, nil},
		"semop":                         {thread(unix.SYS_SEMOP), -int64(unix.EINTR), false, true, nil},
		"a call that the program ended": {thread(unix.SYS_FUTEX), -int64(unix.EINTR), false, false, nil},
		"nanosleep":                     {thread(unix.SYS_NANOSLEEP, ts), tracee.RestartBlock, false, false, &Wait{Syscall: unix.SYS_NANOSLEEP, Remaining: 2 * time.Second, Block: true}},
		"poll for ever":                 {thread(unix.SYS_POLL, 0, 0, 0xffffffff), tracee.RestartBlock, false, false, &Wait{Syscall: unix.SYS_POLL, Remaining: forever, Block: true}},
	} {
		c.t.Regs.SetResult(c.result)
		c.t.Regs.SetIP(100)
		nr := c.t.Regs.Syscall()
		(&Job{}).interrupted(c.t, c.deliverable, nil)
		if rewound := c.t.Regs.IP() == 98; rewound != c.rewound || rewound && c.t.Regs.Result() != int64(nr) {
			t.Errorf("%s: ip %d, result %d", name, c.t.Regs.IP(), c.t.Regs.Result())
		}
		if c.t.Wait != nil {
			if age := Monotonic() - c.t.Wait.At; age < 0 || age > time.Minute {
				t.Errorf("%s: looked at %v ago", name, age)
			}
			c.t.Wait.At = 0
		}
		if fmt.Sprint(c.t.Wait) != fmt.Sprint(c.wait) {
			t.Errorf("%s: wait %+v, want %+v", name, c.t.Wait, c.wait)
		}
	}
}

// TestKnownSleeper: what a restarted wait was is known from the freeze before.
func TestKnownSleeper(t *testing.T) {
	known := []Sleeper{
		{Tid: 5, Syscall: unix.SYS_POLL, Deadline: Monotonic() + time.Hour, IP: 100, SP: 200},
		{Tid: 6, Syscall: unix.SYS_NANOSLEEP, Deadline: Monotonic() + time.Hour, IP: 100, SP: 200},
	}
	th := thread(unix.SYS_RESTART_SYSCALL, 0x7fff0000, 0x7fff0000)
	th.Tid = 6
	th.Regs.SetIP(100)
	th.Regs.Rsp = 200
	(&Job{}).restartBlock(th, known)
	if th.Wait.Syscall != unix.SYS_NANOSLEEP || th.Wait.Remaining > time.Hour || th.Wait.Remaining < time.Hour-time.Minute {
		t.Errorf("%+v", th.Wait)
	}
	known[1].Deadline = forever // an absolute one
	if (&Job{}).restartBlock(th, known); th.Wait.Remaining != forever {
		t.Errorf("%+v", th.Wait)
	}
	th.Regs.Rsp = 208 // another wait, in the same place of the program
	(&Job{}).restartBlock(th, known)
	if th.Wait.Remaining < forever {
		t.Errorf("%+v", th.Wait)
	}
}

func TestSleepers(t *testing.T) {
	sleeping := &Thread{Tid: 7, Wait: &Wait{Syscall: unix.SYS_POLL, Remaining: time.Minute, At: Monotonic(), Block: true}}
	sleeping.Regs.SetIP(100)
	j := &Job{Processes: []*Process{{Threads: []*Thread{
		{Tid: 6}, sleeping, {Tid: 8, Wait: &Wait{Syscall: unix.SYS_EPOLL_WAIT, Remaining: time.Minute}}, {Tid: 9, Wait: &Wait{Syscall: unix.SYS_POLL, Remaining: forever, Block: true}},
	}}}}
	all := j.Sleepers()
	if len(all) != 2 || all[0].Tid != 7 || all[0].IP != 100 || all[1].Tid != 9 || all[1].Deadline != forever {
		t.Fatalf("%+v", all)
	}
	if left := all[0].Deadline - Monotonic(); left > time.Minute || left < 50*time.Second {
		t.Errorf("%v left", left)
	}
}

func TestShorten(t *testing.T) {
	buf := make([]uint64, 256)
	var pin runtime.Pinner
	pin.Pin(&buf[0])
	defer pin.Unpin()
	var regs tracee.Regs
	regs.Rsp = uint64(uintptr(unsafe.Pointer(&buf[255])))
	if err := Shorten(os.Getpid(), &regs, unix.SYS_SEMTIMEDOP, 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if at := regs.Arg(3); regs.Rsp-at < 128+16 {
		t.Errorf("the timeout is %d bytes below the stack pointer, in the red zone", regs.Rsp-at)
	}
	if got, ok := readTimespec(os.Getpid(), regs.Arg(3)); !ok || got != 1500*time.Millisecond {
		t.Errorf("%v %v", got, ok)
	}
	if err := Shorten(os.Getpid(), &regs, unix.SYS_EPOLL_WAIT, 1500*time.Microsecond); err != nil || regs.Arg(3) != 2 {
		t.Errorf("%d ms, %v: not rounded up", regs.Arg(3), err)
	}
	for _, nr := range []int{unix.SYS_READ, unix.SYS_SEMOP, unix.SYS_GETPID} {
		if Shorten(os.Getpid(), &regs, nr, 1) == nil {
			t.Errorf("system call %d was given a timeout", nr)
		}
	}
}

func TestDeliverable(t *testing.T) {
	bit := func(sigs ...unix.Signal) (m uint64) {
		for _, s := range sigs {
			m |= 1 << (s - 1)
		}
		return m
	}
	for name, c := range map[string]struct {
		status procfs.Status
		mask   uint64
		want   bool
	}{
		"none":                   {procfs.Status{}, 0, false},
		"of the thread":          {procfs.Status{SigPnd: bit(unix.SIGTERM)}, 0, true},
		"of the process":         {procfs.Status{ShdPnd: bit(unix.SIGTERM)}, 0, true},
		"blocked":                {procfs.Status{ShdPnd: bit(unix.SIGTERM)}, bit(unix.SIGTERM), false},
		"ignored":                {procfs.Status{ShdPnd: bit(unix.SIGTERM), SigIgn: bit(unix.SIGTERM)}, 0, false},
		"SIGCHLD":                {procfs.Status{ShdPnd: bit(unix.SIGCHLD)}, 0, false},
		"SIGCHLD with a handler": {procfs.Status{ShdPnd: bit(unix.SIGCHLD), SigCgt: bit(unix.SIGCHLD)}, 0, true},
		"one of two":             {procfs.Status{ShdPnd: bit(unix.SIGCHLD, unix.SIGHUP)}, 0, true},
	} {
		if got := deliverable(&c.status, c.mask); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestPassing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&BusyError{Pid: 1}, true},
		{fmt.Errorf("read: %w", tracee.ErrGone), true},
		{fmt.Errorf("read: %w", fs.ErrNotExist), false},
		{&fs.PathError{Op: "open", Path: "/proc/1/stat", Err: unix.ENOENT}, true},
		{&fs.PathError{Op: "read", Path: "/proc/1/stat", Err: unix.ESRCH}, true},
		{fmt.Errorf("thread 1: %w", errMoving), true},
		{unix.EPERM, false},
		{ErrEnded, false},
		{&LeaderError{}, false},
		{errors.New("other"), false},
	} {
		if got := passing(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
