// SPDX-License-Identifier: Apache-2.0

// Package agent puts a process of ours into the namespaces of a job, outside of
// its pid namespace: the job cannot see it. Through it a worker makes the system
// calls that tell of what belongs to the job as a whole and to none of its
// processes: System V objects, message queues, terminals. In the job's user
// namespace the agent may do everything, whoever the worker is.
package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/seed"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// Agent is the process. It is a tracee of the thread that started it, and ends
// with it.
type Agent struct {
	Pid  int
	regs tracee.Regs
	stub uint64
	area uint64
	used uint64 // bytes of the data area that calls in the making point to
}

// The area: records first, then data.
const (
	page      = 4096
	recordLen = 64
	// MaxCalls is how many calls Do can make at once.
	MaxCalls = 4096
	dataAt   = MaxCalls * recordLen
	// DataSize is how many bytes New and Bytes can give until the next Reset.
	DataSize = 64 << 20
	// FirstFD is the first descriptor that calls will open.
	FirstFD = 3
	// AtFdCwd is AT_FDCWD of openat(2).
	AtFdCwd = ^uint64(99)
)

// Start starts an agent for the job of an init. The calling goroutine must be
// locked to its thread, and only it may use the agent.
func Start(init int) (*Agent, error) {
	pid, err := startSeed()
	if err != nil {
		return nil, fmt.Errorf("start an agent: %w", err)
	}
	a := &Agent{Pid: pid}
	if err := a.take(); err != nil {
		a.Close()
		return nil, fmt.Errorf("start an agent: %w", err)
	}
	if err := a.enter(init); err != nil {
		a.Close()
		return nil, fmt.Errorf("enter the job's namespaces: %w", err)
	}
	return a, nil
}

func startSeed() (int, error) {
	fd, err := unix.MemfdCreate("esky-agent", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, seed.ELF()); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/fd/"+strconv.Itoa(fd), []string{"esky-agent"}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{null, null, null},
	})
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	return pid, p.Release()
}

// take makes it a tracee with a stub in it.
func (a *Agent) take() error {
	if err := tracee.Seize(a.Pid); err != nil {
		return err
	}
	if err := tracee.Interrupt(a.Pid); err != nil {
		return err
	}
	if _, err := tracee.Wait(a.Pid); err != nil {
		return err
	}
	if err := tracee.ArmExitKill(a.Pid); err != nil {
		return err
	}
	if err := tracee.SetSigmask(a.Pid, ^uint64(1<<(unix.SIGTRAP-1))); err != nil {
		return err
	}
	var err error
	if a.regs, err = tracee.GetRegs(a.Pid); err != nil {
		return err
	}
	mmap := tracee.Sys("mmap", unix.SYS_MMAP, 0, page+dataAt+DataSize, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uint64(0), 0)
	if err := tracee.SyscallAt(a.Pid, seed.Syscall, a.regs, mmap); err != nil {
		return err
	}
	a.stub = uint64(mmap.Result)
	a.area = a.stub + page
	return tracee.WriteMemory(a.Pid, a.stub, shim.StubCode())
}

// enter joins the job's user, IPC and mount namespaces. With other credentials
// it would be closed to us (PR_SET_DUMPABLE of prctl(2)), so that is undone in
// the same breath.
func (a *Agent) enter(init int) error {
	closeAll := func() *tracee.Call {
		return tracee.Sys("close_range", unix.SYS_CLOSE_RANGE, FirstFD, uint64(^uint32(0)), 0)
	}
	calls := []*tracee.Call{closeAll()} // a worker's pipes
	fd := uint64(FirstFD)
	for _, ns := range []struct {
		name string
		flag uint64
	}{{"user", unix.CLONE_NEWUSER}, {"ipc", unix.CLONE_NEWIPC}, {"mnt", unix.CLONE_NEWNS}} {
		theirs, err := procfs.Link(init, "ns/"+ns.name)
		if err != nil {
			return err
		}
		if ours, err := procfs.Link(a.Pid, "ns/"+ns.name); err != nil || ours == theirs {
			continue
		}
		path := a.String(fmt.Sprintf("/proc/%d/ns/%s", init, ns.name))
		calls = append(calls,
			tracee.Sys("open the "+ns.name+" namespace", unix.SYS_OPENAT, AtFdCwd, path, unix.O_RDONLY, 0))
	}
	for range len(calls) - 1 {
		calls = append(calls, tracee.Sys("setns", unix.SYS_SETNS, fd, 0))
		fd++
	}
	calls = append(calls,
		tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
		closeAll())
	return a.Do(calls...)
}

// Bytes puts data where calls can point to.
func (a *Agent) Bytes(b []byte) uint64 {
	at := a.New(len(b))
	_ = tracee.WriteMemory(a.Pid, at, b) // the calls say EFAULT, or the tracee is gone
	return at
}

// String puts a string there.
func (a *Agent) String(s string) uint64 { return a.Bytes(append([]byte(s), 0)) }

// Words puts 64-bit numbers there.
func (a *Agent) Words(v ...uint64) uint64 {
	var b []byte
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return a.Bytes(b)
}

// New reserves room for a call's answer. What does not fit gets an address that
// calls refuse.
func (a *Agent) New(n int) uint64 {
	at := (a.used + 15) &^ 15
	if at+uint64(n) > DataSize {
		return 1
	}
	a.used = at + uint64(n)
	return a.area + dataAt + at
}

// Reset makes all room free again.
func (a *Agent) Reset() { a.used = 0 }

// Read returns what a call has left at an address.
func (a *Agent) Read(at uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, tracee.ReadMemory(a.Pid, at, b)
}

// Borrow duplicates a descriptor of the agent into this process.
func (a *Agent) Borrow(fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(a.Pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open the agent: %w", err)
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}

// Do makes the agent execute system calls, all of them, and returns the first
// error.
func (a *Agent) Do(calls ...*tracee.Call) error {
	for len(calls) > MaxCalls {
		if err := a.Do(calls[:MaxCalls]...); err != nil {
			return err
		}
		calls = calls[MaxCalls:]
	}
	b := &tracee.Batch{Tid: a.Pid, Pid: a.Pid, Base: a.regs, Records: a.area, Calls: calls}
	return b.Run(a.stub)
}

// Close ends the agent.
func (a *Agent) Close() {
	_ = unix.Kill(a.Pid, unix.SIGKILL)
	for {
		if s, err := tracee.Wait(a.Pid); err != nil || s.Ended() {
			return
		}
	}
}
