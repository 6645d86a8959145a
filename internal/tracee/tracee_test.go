// SPDX-License-Identifier: Apache-2.0

package tracee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/shim"
)

// child is a stopped tracee with a stub in it.
type child struct {
	t    *testing.T
	pid  int
	regs Regs
	insn uint64 // a syscall instruction
	code uint64 // the stub
	area uint64
}

const areaLen = 64 << 10

// newChild stops a sleeping process. Everything is done on the test's thread.
func newChild(t *testing.T) *child {
	t.Helper()
	runtime.LockOSThread()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, pid: cmd.Process.Pid}
	t.Cleanup(func() {
		_ = unix.Kill(c.pid, unix.SIGKILL)
		for {
			if s, err := Wait(c.pid); err != nil || s.Ended() {
				break
			}
		}
		runtime.UnlockOSThread()
	})
	awaitSleep(t, c.pid)
	c.stop()
	c.plant()
	return c
}

// awaitSleep waits until the program has begun its sleep.
func awaitSleep(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/syscall")
		if nr, _, ok := strings.Cut(string(b), " "); ok && (nr == "35" || nr == "230") { // nanosleep, clock_nanosleep
			return
		}
	}
	t.Fatal("the child does not sleep")
}

func (c *child) stop() {
	c.t.Helper()
	must(c.t, Seize(c.pid))
	must(c.t, Interrupt(c.pid))
	s, err := Wait(c.pid)
	must(c.t, err)
	if s.Event() != unix.PTRACE_EVENT_STOP {
		c.t.Fatal(s)
	}
	must(c.t, ArmExitKill(c.pid))
	c.regs, err = GetRegs(c.pid)
	must(c.t, err)
}

// plant puts the stub in, by SyscallAt.
func (c *child) plant() {
	c.t.Helper()
	maps, err := procfs.ReadMaps(c.pid)
	must(c.t, err)
	for _, m := range maps {
		if m.Path != "[vdso]" {
			continue
		}
		code := make([]byte, m.End-m.Start)
		must(c.t, ReadMemory(c.pid, m.Start, code))
		c.insn = m.Start + uint64(FindSyscallInsn(code))
	}
	mmap := Sys("mmap", unix.SYS_MMAP, 0, 4096+areaLen, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	must(c.t, SyscallAt(c.pid, c.insn, c.regs, mmap))
	c.code = uint64(mmap.Result)
	c.area = c.code + 4096
	stub := shim.StubCode()
	if len(stub) == 0 {
		c.t.Fatal("no stub: build shim first (make shim)")
	}
	must(c.t, WriteMemory(c.pid, c.code, stub))
}

func (c *child) batch(calls ...*Call) *Batch {
	return &Batch{Tid: c.pid, Pid: c.pid, Base: c.regs, Records: c.area, Calls: calls}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBatch(t *testing.T) {
	c := newChild(t)
	data := c.area + 32<<10
	getpid := Sys("getpid", unix.SYS_GETPID)
	bad := Sys("close", unix.SYS_CLOSE, 12345)
	name := Sys("prctl", unix.SYS_PRCTL, unix.PR_SET_NAME, data)
	must(t, WriteMemory(c.pid, data, []byte("renamed\x00")))
	b := c.batch(getpid, bad, name)
	if err := b.Run(c.code); !errors.Is(err, unix.EBADF) || !strings.HasPrefix(err.Error(), "close: ") {
		t.Errorf("error %v, not EBADF of close", err)
	}
	if getpid.Result != int64(c.pid) || bad.Result != -int64(unix.EBADF) || name.Result != 0 {
		t.Errorf("results %d, %d, %d", getpid.Result, bad.Result, name.Result)
	}
	if st, err := procfs.ReadStat(c.pid, 0); err != nil || st.Comm != "renamed" {
		t.Errorf("the call after the one that failed was not made: %q %v", st.Comm, err)
	}
	bad.Asks, bad.Result = true, 0
	if err := b.Run(c.code); err != nil || bad.Err() == nil {
		t.Errorf("a question that was answered with an error: %v, its own error %v", err, bad.Err())
	}
}

func TestBatchStopsOnError(t *testing.T) {
	c := newChild(t)
	must(t, WriteMemory(c.pid, c.area+32<<10, []byte("renamed\x00")))
	b := c.batch(Sys("close", unix.SYS_CLOSE, 12345), Sys("prctl", unix.SYS_PRCTL, unix.PR_SET_NAME, c.area+32<<10))
	b.StopOnError = true
	if err := b.Run(c.code); !errors.Is(err, unix.EBADF) {
		t.Errorf("error %v", err)
	}
	if st, err := procfs.ReadStat(c.pid, 0); err != nil || st.Comm != "sleep" {
		t.Errorf("the call after the one that failed was made: %q %v", st.Comm, err)
	}
}

// TestBatchMakesTasks: processes and threads made by a batch are tracees.
func TestBatchMakesTasks(t *testing.T) {
	c := newChild(t)
	b := c.batch(
		Sys("fork", unix.SYS_CLONE, uint64(unix.SIGCHLD)),
		Sys("clone", unix.SYS_CLONE, unix.CLONE_VM),
	)
	must(t, b.Run(c.code))
	if len(b.Born) != 2 || int64(b.Born[0]) != b.Calls[0].Result || int64(b.Born[1]) != b.Calls[1].Result {
		t.Fatalf("born %v, results %d and %d", b.Born, b.Calls[0].Result, b.Calls[1].Result)
	}
	for _, pid := range b.Born {
		one := &Batch{Tid: pid, Pid: pid, Base: c.regs, Records: c.area, Calls: []*Call{Sys("getppid", unix.SYS_GETPPID)}}
		must(t, one.Run(c.code))
		if got := one.Calls[0].Result; got != int64(c.pid) {
			t.Errorf("parent of %d is %d", pid, got)
		}
		must(t, unix.Kill(pid, unix.SIGKILL))
		if s, err := Wait(pid); err != nil || !s.Ended() {
			t.Errorf("%v %v", s, err)
		}
	}
}

// TestBatchAndSigstop: SIGSTOP is the one signal that cannot be held off. The
// batch is finished even so, and afterwards the process stands still.
func TestBatchAndSigstop(t *testing.T) {
	c := newChild(t)
	must(t, SetSigmask(c.pid, ^uint64(1<<(unix.SIGTRAP-1))))
	must(t, unix.Kill(c.pid, unix.SIGSTOP))
	getpid := Sys("getpid", unix.SYS_GETPID)
	must(t, c.batch(getpid).Run(c.code))
	if getpid.Result != int64(c.pid) {
		t.Errorf("getpid gave %d", getpid.Result)
	}
	must(t, SyscallAt(c.pid, c.insn, c.regs, Sys("getuid", unix.SYS_GETUID)))
	must(t, Settle(c.pid))
	c.letGo()
	c.await("state T", func() bool { st, err := procfs.ReadStat(c.pid, 0); return err == nil && st.State == 'T' })
}

// TestForeignTrap: a SIGTRAP that another process sends is not the end of a batch.
func TestForeignTrap(t *testing.T) {
	c := newChild(t)
	must(t, unix.Kill(c.pid, unix.SIGTRAP))
	getpid := Sys("getpid", unix.SYS_GETPID)
	must(t, c.batch(getpid).Run(c.code))
	if getpid.Result != int64(c.pid) {
		t.Errorf("getpid gave %d", getpid.Result)
	}
}

// TestForeignTrapSwallowsOurs: that of the breakpoint at the stub's end is lost where
// one is pending already. The batch has ended even so.
func TestForeignTrapSwallowsOurs(t *testing.T) {
	c := newChild(t)
	must(t, SetSigmask(c.pid, 1<<(unix.SIGTRAP-1)))
	must(t, unix.Tgkill(c.pid, c.pid, unix.SIGTRAP))
	getpid := Sys("getpid", unix.SYS_GETPID)
	must(t, c.batch(getpid).Run(c.code))
	if getpid.Result != int64(c.pid) {
		t.Errorf("getpid gave %d", getpid.Result)
	}
	if !strays[c.pid].toThread {
		t.Error("the SIGTRAP is not kept for the program")
	}
}

// TestFaultOfTheProgram: a signal for something forbidden that the program did just
// before it was stopped comes ahead of the breakpoint's, though it is blocked, and
// waits for the program still when the batch is through.
func TestFaultOfTheProgram(t *testing.T) {
	c := newChild(t)
	must(t, SetSigmask(c.pid, ^uint64(1<<(unix.SIGTRAP-1))))
	info := make([]byte, siginfoSize)
	const accerr, addr = 2, 0x7000
	binary.LittleEndian.PutUint32(info, uint32(unix.SIGSEGV))
	binary.LittleEndian.PutUint32(info[8:], accerr)
	binary.LittleEndian.PutUint64(info[16:], addr)
	at := c.area + 32<<10
	must(t, WriteMemory(c.pid, at, info))
	fault := Sys("rt_tgsigqueueinfo", unix.SYS_RT_TGSIGQUEUEINFO, uint64(c.pid), uint64(c.pid), uint64(unix.SIGSEGV), at)
	getpid := Sys("getpid", unix.SYS_GETPID)
	must(t, c.batch(fault, getpid).Run(c.code))
	must(t, c.batch(getpid).Run(c.code))
	if getpid.Result != int64(c.pid) {
		t.Errorf("getpid gave %d", getpid.Result)
	}
	waiting, err := Pending(c.pid, false)
	must(t, err)
	if len(waiting) != 1 || !bytes.Equal(waiting[0][:24], info[:24]) {
		t.Errorf("what waits for the program is %x, not %x", waiting, info[:24])
	}
}

// TestFaultOfTheStub: records that are not there end the batch.
func TestFaultOfTheStub(t *testing.T) {
	c := newChild(t)
	b := c.batch(Sys("getpid", unix.SYS_GETPID), Sys("munmap", unix.SYS_MUNMAP, c.area, 1<<12), Sys("getpid", unix.SYS_GETPID))
	if err := b.Run(c.code); err == nil || !strings.Contains(err.Error(), "in a batch") {
		t.Errorf("error %v", err)
	}
}

func TestBatchInKilledProcess(t *testing.T) {
	c := newChild(t)
	must(t, unix.Kill(c.pid, unix.SIGKILL))
	if err := c.batch(Sys("getpid", unix.SYS_GETPID)).Run(c.code); !errors.Is(err, ErrGone) {
		t.Errorf("error %v, not ErrGone", err)
	}
}

// letGo gives the child its registers and an empty mask, and lets it run.
func (c *child) letGo() {
	c.t.Helper()
	must(c.t, SetRegs(c.pid, c.regs))
	must(c.t, SetSigmask(c.pid, 0))
	must(c.t, Detach(c.pid, 0))
}

func (c *child) await(what string, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	c.t.Fatalf("no %s", what)
}

// TestRestartAfterSyscallAt: a wait that was interrupted goes on after the
// thread has made other calls in between.
func TestRestartAfterSyscallAt(t *testing.T) {
	c := newChild(t)
	must(t, SyscallAt(c.pid, c.insn, c.regs, Sys("getuid", unix.SYS_GETUID)))
	must(t, Settle(c.pid))
	c.letGo()
	awaitSleepAgain := func() bool {
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(c.pid) + "/syscall")
		return strings.HasPrefix(string(b), "219 ") // restart_syscall
	}
	c.await("restart_syscall", awaitSleepAgain)
}

// TestEnterWait: the thread enters a wait of 100 ms, and leaves it, with the
// result of its first call, after these.
func TestEnterWait(t *testing.T) {
	c := newChild(t)
	at := c.area + 32<<10
	must(t, WriteMemory(c.pid, at, append(make([]byte, 8), 0, 0xe1, 0xf5, 5, 0, 0, 0, 0))) // 0 s, 100000000 ns
	call := Sys("nanosleep", unix.SYS_NANOSLEEP, at, 0)
	began := time.Now()
	must(t, EnterWait(c.pid, c.insn, c.regs, call))
	if call.Result != RestartBlock {
		t.Fatalf("result %d, not that of a wait", call.Result)
	}
	if d := time.Since(began); d > 80*time.Millisecond {
		t.Errorf("it waited for %v before it was stopped", d)
	}
	regs := c.regs
	regs.SetIP(c.code) // to a breakpoint once the wait is over
	regs.SetSyscall(unix.SYS_NANOSLEEP)
	regs.SetResult(RestartBlock)
	must(t, WriteMemory(c.pid, c.code+2048, []byte{0x0f, 0x05, 0xcc}))
	regs.SetIP(c.code + 2050)
	must(t, SetRegs(c.pid, regs))
	must(t, Cont(c.pid, 0))
	s, err := Wait(c.pid)
	must(t, err)
	if d := time.Since(began); s.Signal() != unix.SIGTRAP || d < 99*time.Millisecond {
		t.Errorf("%v after %v", s, d)
	}
	after, err := GetRegs(c.pid)
	must(t, err)
	if after.Result() != 0 {
		t.Errorf("the wait returned %d", after.Result())
	}
}

func TestEnterWaitThatNeedNotWait(t *testing.T) {
	c := newChild(t)
	call := Sys("futex", unix.SYS_FUTEX, c.area, 0, 1, 0) // FUTEX_WAIT for 1 to change, where there is 0
	must(t, EnterWait(c.pid, c.insn, c.regs, call))
	if call.Result != -int64(unix.EAGAIN) {
		t.Errorf("result %d", call.Result)
	}
}

func TestPending(t *testing.T) {
	c := newChild(t)
	must(t, SetSigmask(c.pid, ^uint64(0)))
	const many = 40 // more than are read at once
	for range many {
		must(t, unix.Kill(c.pid, unix.Signal(40)))
	}
	must(t, unix.Tgkill(c.pid, c.pid, unix.SIGUSR1))
	shared, err := Pending(c.pid, true)
	must(t, err)
	own, err := Pending(c.pid, false)
	must(t, err)
	if len(shared) != many || len(own) != 1 {
		t.Fatalf("%d and %d signals, not %d and 1", len(shared), len(own), many)
	}
	if shared[many-1][0] != 40 || own[0][0] != byte(unix.SIGUSR1) {
		t.Errorf("signals %d and %d", shared[many-1][0], own[0][0])
	}
}

func TestSigmaskAndXstate(t *testing.T) {
	c := newChild(t)
	const mask = 1<<(unix.SIGUSR1-1) | 1<<63
	must(t, SetSigmask(c.pid, mask))
	if got, err := Sigmask(c.pid); err != nil || got != mask {
		t.Errorf("mask %#x %v", got, err)
	}
	state, err := Xstate(c.pid)
	must(t, err)
	const xmm0 = 160 // in the legacy area, Intel SDM 13.4.1
	copy(state[xmm0:], "sixteen bytes !!")
	state[512] |= 2 // XSTATE_BV: SSE
	must(t, SetXstate(c.pid, state))
	back, err := Xstate(c.pid)
	must(t, err)
	if !bytes.Equal(back[xmm0:xmm0+16], state[xmm0:xmm0+16]) {
		t.Errorf("xmm0 is %q", back[xmm0:xmm0+16])
	}
}

func TestMemory(t *testing.T) {
	c := newChild(t)
	err := ReadMemory(c.pid, 16, make([]byte, 8))
	if !errors.Is(err, unix.EFAULT) {
		t.Errorf("error %v, not EFAULT", err)
	}
	const page = 4096
	must(t, SyscallAt(c.pid, c.insn, c.regs, Sys("munmap", unix.SYS_MUNMAP, c.area+areaLen-page, page)))
	if err := ReadMemory(c.pid, c.area+areaLen-2*page, make([]byte, 2*page)); err == nil {
		t.Error("a read that goes on behind the mapping gave no error")
	}
	must(t, ReadMemory(c.pid, 16, nil))
	must(t, WriteMemory(c.pid, 16, nil))
}

func TestGone(t *testing.T) {
	for name, err := range map[string]error{
		"seize": Seize(1 << 22), "interrupt": Interrupt(1 << 22), "cont": Cont(1<<22, 0), "detach": Detach(1<<22, 0),
	} {
		if !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Wait(1 << 22); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

func TestTryWaitGivesUp(t *testing.T) {
	c := newChild(t)
	must(t, Settle(c.pid))
	must(t, SetRegs(c.pid, c.regs))
	must(t, Cont(c.pid, 0))
	began := time.Now()
	_, ok, err := TryWait(c.pid, began.Add(20*time.Millisecond))
	if d := time.Since(began); ok || err != nil || d < 20*time.Millisecond || d > 5*time.Second {
		t.Errorf("%v, %v after %v", ok, err, d)
	}
}

// TestReap: only death is taken note of, not a stop that waits to be reported.
func TestReap(t *testing.T) {
	c := newChild(t)
	must(t, Settle(c.pid))
	must(t, SetRegs(c.pid, c.regs))
	must(t, Cont(c.pid, 0))
	must(t, Interrupt(c.pid))
	c.await("stop", func() bool { st, err := procfs.ReadStat(c.pid, 0); return err == nil && st.State == 't' })
	if Reap(c.pid) {
		t.Error("a stopped tracee was taken for dead")
	}
	if s, ok, err := TryWait(c.pid, time.Now().Add(time.Second)); err != nil || !ok || s.Event() != unix.PTRACE_EVENT_STOP {
		t.Fatalf("%v %v %v: the stop is not reported any more", s, ok, err)
	}
	must(t, unix.Kill(c.pid, unix.SIGKILL))
	c.await("death", func() bool { return Reap(c.pid) })
	if Reap(c.pid) {
		t.Error("it died twice")
	}
}

func TestRegsEncoding(t *testing.T) {
	var r Regs
	r.Rip, r.Rax, r.Orig_rax, r.Fs_base, r.Gs = 1, 2, 3, 4, 5
	b := r.Encode()
	back, err := DecodeRegs(b)
	if err != nil || back != r {
		t.Errorf("%+v %v", back, err)
	}
	if len(b) != 27*8 || b[16*8] != 1 { // rip is the 17th of 27, sys/user.h
		t.Errorf("%d bytes, rip %d", len(b), b[16*8])
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(slices.Clone(b), 0)} {
		if _, err := DecodeRegs(bad); err == nil {
			t.Errorf("%d bytes were taken for registers", len(bad))
		}
	}
}

func TestRewind(t *testing.T) {
	var r Regs
	r.Rip, r.Orig_rax = 102, unix.SYS_EPOLL_WAIT
	r.SetResult(-int64(unix.EINTR))
	r.Rewind()
	if r.IP() != 100 || r.Rax != unix.SYS_EPOLL_WAIT || r.Syscall() != -1 {
		t.Errorf("ip %d, rax %d, system call %d", r.IP(), r.Rax, r.Syscall())
	}
}

func TestArgs(t *testing.T) {
	var r Regs
	for i := range 6 {
		r.SetArg(i, uint64(10+i))
	}
	want := []uint64{10, 11, 12, 13, 14, 15}
	if diff := cmp.Diff(want, []uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}); diff != "" {
		t.Error(diff)
	}
	for i, w := range want {
		if r.Arg(i) != w {
			t.Errorf("argument %d is %d", i, r.Arg(i))
		}
	}
}

func TestFindSyscallInsn(t *testing.T) {
	for _, c := range []struct {
		code []byte
		want int
	}{
		{nil, -1}, {[]byte{0x0f}, -1}, {[]byte{0x0f, 0x05}, 0}, {[]byte{0x90, 0x0f, 0x0f, 0x05}, 2}, {[]byte{5, 0x0f}, -1},
	} {
		if got := FindSyscallInsn(c.code); got != c.want {
			t.Errorf("in %x: %d, want %d", c.code, got, c.want)
		}
	}
}

func TestCallErr(t *testing.T) {
	for _, c := range []struct {
		result int64
		want   error
	}{{0, nil}, {5, nil}, {-1, unix.EPERM}, {-4095, unix.Errno(4095)}, {-4096, nil}, {-140000000000000, nil}} {
		call := &Call{Name: "x", Result: c.result}
		if err := call.Err(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%d gives %v, want %v", c.result, err, c.want)
		}
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		status  uint32
		event   int
		syscall bool
		ended   bool
		text    string
	}{
		{0x057f, 0, false, false, "stopped by trace/breakpoint trap"},
		{0x857f, 0, true, false, ""},
		{0x80057f, unix.PTRACE_EVENT_STOP, false, false, "ptrace event 128"},
		{0x80137f, unix.PTRACE_EVENT_STOP, false, false, "ptrace event 128"},
		{0x03057f, unix.PTRACE_EVENT_CLONE, false, false, "ptrace event 3"},
		{0x0300, 0, false, true, "exited with 3"},
		{0x0009, 0, false, true, "killed by killed"},
	} {
		s := Stop{unix.WaitStatus(c.status)}
		if s.Event() != c.event || s.Syscall() != c.syscall || s.Ended() != c.ended {
			t.Errorf("%#x: event %d, syscall %v, ended %v", c.status, s.Event(), s.Syscall(), s.Ended())
		}
		if c.text != "" && s.String() != c.text {
			t.Errorf("%#x: %q, want %q", c.status, s, c.text)
		}
	}
}

func TestMaxCalls(t *testing.T) {
	if n := (Stub{AreaSize: 128 << 10}).MaxCalls(64 << 10); n != 1024 {
		t.Error(n)
	}
}
