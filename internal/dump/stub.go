// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// process is a live process of the frozen job and the way to act in it.
type process struct {
	*freeze.Process
	maps     []procfs.Mapping // as they were before a stub was put in
	stub     tracee.Stub
	shim     uint64 // load base of the preload library, 0 without
	injected uint64 // address of our own mapping, 0 with the library's stub
	insn     uint64 // a syscall instruction in the vDSO
	mem      *pages.Memory
	trap     *imagepb.SigAction // of SIGTRAP, once it is known
	snapshot int                // host pid of the snapshot
	places   map[int]*ownPlace  // of threads with a working directory of their own, by tid
	// undumpable: PR_SET_DUMPABLE was 0 and is put back with closeStub.
	undumpable bool
	given      string // the CPUs that the job may use, as its init was given them
}

// Injected stub: a page of code and an area, between guard pages, so that the
// kernel merges neither with a mapping of the program.
const (
	guard        = pages.PageSize
	injectedArea = 128 << 10
	injectedLen  = guard + pages.PageSize + injectedArea + guard
)

// openStub finds the preload library's stub in the process or puts one in.
func (p *process) openStub() error {
	if base, ok := findShim(p.maps); ok {
		layout, err := shim.Layout()
		if err != nil {
			return err
		}
		p.shim = base
		p.stub = tracee.Stub{Code: base + layout.Stub, Area: base + layout.StubArea, AreaSize: layout.StubAreaSize}
		return nil
	}
	return p.inject()
}

// findShim looks for this very version of the library, all of it: a program that
// is just starting may have mapped only a part.
func findShim(maps []procfs.Mapping) (base uint64, ok bool) {
	name := shim.Name()
	layout, err := shim.Layout()
	if err != nil || name == "" {
		return 0, false
	}
	for i := range maps {
		m := &maps[i]
		if m.Offset != 0 || m.Deleted || filepath.Base(m.Path) != name {
			continue
		}
		return m.Start, covers(maps, m.Start+layout.Stub, m.Start+layout.StubEnd, unix.PROT_EXEC) &&
			covers(maps, m.Start+layout.StubArea, m.Start+layout.StubArea+layout.StubAreaSize, unix.PROT_WRITE) &&
			covers(maps, m.Start+layout.State, m.Start+layout.State+shim.StateSize, unix.PROT_WRITE)
	}
	return 0, false
}

// covers says that all of [start, end) is mapped with that protection.
func covers(maps []procfs.Mapping, start, end uint64, prot int) bool {
	for i := range maps {
		m := &maps[i]
		if m.Start <= start && start < m.End && int(m.Prot())&prot == prot {
			start = m.End
		}
	}
	return start >= end
}

func (p *process) inject() error {
	if err := p.findSyscallInsn(); err != nil {
		return err
	}
	mmap := tracee.Sys("mmap", unix.SYS_MMAP, 0, injectedLen, unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uint64(0), 0)
	if err := p.syscall(mmap); err != nil {
		return err
	}
	p.injected = uint64(mmap.Result)
	code := p.injected + guard
	// Not mprotect(2), which PR_SET_MDWE forbids.
	if err := p.syscall(tracee.Sys("mmap", unix.SYS_MMAP, code, pages.PageSize, unix.PROT_READ|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED, ^uint64(0), 0)); err != nil {
		return err
	}
	area := code + pages.PageSize
	if err := p.syscall(tracee.Sys("mprotect", unix.SYS_MPROTECT, area, injectedArea, unix.PROT_READ|unix.PROT_WRITE)); err != nil {
		return err
	}
	p.stub = tracee.Stub{Code: code, Area: area, AreaSize: injectedArea}
	return p.mem.WriteAt(shim.StubCode(), code)
}

// openMemory opens the process's memory. The files below /proc/PID of a process
// that is not dumpable belong to root (proc(5)): it is made dumpable for the
// time of the pause, and so is its snapshot.
func (p *process) openMemory() (err error) {
	p.mem, err = pages.OpenMemory(p.Eye)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if err := p.findSyscallInsn(); err != nil {
		return err
	}
	if err := p.syscall(tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)); err != nil {
		return err
	}
	p.undumpable = true
	p.mem, err = pages.OpenMemory(p.Eye)
	return err
}

// syscall makes the leader execute one system call without a stub.
func (p *process) syscall(c *tracee.Call) error {
	return tracee.SyscallAt(p.Leader().HostTid, p.insn, p.Leader().Regs, c)
}

func (p *process) findSyscallInsn() error {
	for i := range p.maps {
		m := &p.maps[i]
		if m.Path != "[vdso]" {
			continue
		}
		code := make([]byte, m.Size())
		if err := tracee.ReadMemory(p.Eye, m.Start, code); err != nil {
			return err
		}
		if off := tracee.FindSyscallInsn(code); off >= 0 {
			p.insn = m.Start + uint64(off)
			return nil
		}
	}
	return fmt.Errorf("pid %d: no system call instruction in the vDSO", p.Pid)
}

// closeStub removes what inject put in.
func (p *process) closeStub() error {
	if p.mem != nil {
		defer p.mem.Close()
	}
	if err := p.keepTrapIgnored(); err != nil {
		return err
	}
	if p.undumpable {
		if err := p.syscall(tracee.Sys("prctl", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)); err != nil {
			return err
		}
		if p.injected == 0 {
			return tracee.Settle(p.Leader().HostTid)
		}
	}
	if p.injected == 0 {
		return nil
	}
	err := p.syscall(tracee.Sys("munmap", unix.SYS_MUNMAP, p.injected, injectedLen))
	p.injected = 0
	if err != nil {
		return err
	}
	return tracee.Settle(p.Leader().HostTid)
}

// keepTrapIgnored ignores SIGTRAP again where the program did: the breakpoint
// at the end of a batch makes the kernel reset that to the default.
func (p *process) keepTrapIgnored() error {
	if p.trap == nil || p.trap.Handler != sigIgn {
		return nil
	}
	if p.insn == 0 {
		if err := p.findSyscallInsn(); err != nil {
			return err
		}
	}
	if err := p.mem.WriteAt(encodeSigaction(p.trap), p.stub.Area); err != nil {
		return err
	}
	act := tracee.Sys("rt_sigaction", unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), p.stub.Area, 0, sigsetSize)
	if err := p.syscall(act); err != nil {
		return err
	}
	return tracee.Settle(p.Leader().HostTid)
}

// batch prepares calls for a thread, with records at an offset of the area.
func (p *process) batch(t *freeze.Thread, at uint64, calls ...*tracee.Call) *tracee.Batch {
	return &tracee.Batch{Tid: t.HostTid, Pid: p.Eye, Base: t.Regs, Records: p.stub.Area + at, Calls: calls}
}
