// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/seed"
	"github.com/esky-hpc/esky/internal/tracee"
)

// task is a process, or a thread of one, in the making: a stopped tracee with
// the stub at its place.
type task struct {
	host int // host tid
	pid  int // host pid of the process whose memory it has
	stub uint64
	regs tracee.Regs
	slot uint64 // offset of its records in the area
	room uint64 // bytes it may use there
}

// script is a batch in the making. Its records lie at the start of the task's
// part of the area, the data they point to at its end.
type script struct {
	t     *task
	calls []*tracee.Call
	data  []byte
	err   error
}

func (t *task) script() *script { return &script{t: t} }

// dataShare of the room is for data, the rest for records.
const (
	dataShare = 4
	recordLen = 64
)

func (s *script) dataAt() uint64 {
	return s.t.stub + pageSize + s.t.slot + s.t.room - s.t.room/dataShare
}

// bytes puts data into the process and returns its address.
func (s *script) bytes(b []byte) uint64 {
	for len(s.data)%8 != 0 {
		s.data = append(s.data, 0)
	}
	at := s.dataAt() + uint64(len(s.data))
	s.data = append(s.data, b...)
	if uint64(len(s.data)) > s.t.room/dataShare && s.err == nil {
		s.err = fmt.Errorf("%d bytes of arguments do not fit", len(s.data))
	}
	return at
}

func (s *script) string(v string) uint64 { return s.bytes(append([]byte(v), 0)) }

func (s *script) words(v ...uint64) uint64 {
	var b []byte
	for _, w := range v {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return s.bytes(b)
}

// add adds a system call.
func (s *script) add(name string, nr uintptr, args ...uint64) *tracee.Call {
	c := tracee.Sys(name, nr, args...)
	s.calls = append(s.calls, c)
	return c
}

// full says that there is little room left: run, and go on with a new one.
func (s *script) full() bool {
	return uint64(len(s.calls)+8)*recordLen > s.t.room-s.t.room/dataShare || uint64(len(s.data))+8192 > s.t.room/dataShare
}

// run runs the script; the first error among its calls ends it.
func (s *script) run() ([]int, error) {
	if s.err != nil || len(s.calls) == 0 {
		return nil, s.err
	}
	if n := uint64(len(s.calls)); n*recordLen > s.t.room-s.t.room/dataShare {
		return nil, fmt.Errorf("%d system calls do not fit into one batch", n)
	}
	if err := tracee.WriteMemory(s.t.pid, s.dataAt(), s.data); err != nil {
		return nil, err
	}
	b := &tracee.Batch{
		Tid: s.t.host, Pid: s.t.pid, Base: s.t.regs, Records: s.t.stub + pageSize + s.t.slot,
		Calls: s.calls, StopOnError: true,
	}
	err := b.Run(s.t.stub)
	s.calls, s.data = nil, nil
	return b.Born, err
}

// doIfFull runs what there is before more is added.
func (s *script) doIfFull() error {
	if !s.full() {
		return nil
	}
	return s.do()
}

// do runs the script for its effects.
func (s *script) do() error {
	_, err := s.run()
	return err
}

// read copies what calls have left at an address of the area.
func (t *task) read(at uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, tracee.ReadMemory(t.pid, at, b)
}

// writeMemory writes into the task's memory.
func writeMemory(t *task, at uint64, b []byte) error { return tracee.WriteMemory(t.pid, at, b) }

// plant puts the stub into the freshly stopped seed.
func plant(host int, at uint64, code []byte) (*task, error) {
	regs, err := tracee.GetRegs(host)
	if err != nil {
		return nil, err
	}
	mmap := tracee.Sys("mmap", unix.SYS_MMAP, at, stubLen, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uint64(0), 0)
	if err := tracee.SyscallAt(host, seed.Syscall, regs, mmap); err != nil {
		return nil, fmt.Errorf("plant the stub: %w", err)
	}
	mem, err := pages.OpenMemory(host)
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	if err := mem.WriteAt(code, at); err != nil {
		return nil, err
	}
	regs.Fs_base, regs.Gs_base = 0, 0
	return &task{host: host, pid: host, stub: at, regs: regs, room: areaLen}, nil
}
