// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// noteMode says in the image that the job lives without namespaces, and by how
// much its clocks, which its preload library shows it, differ from the kernel's:
// deadlines that the kernel has been given are the kernel's time.
func (d *Dump) noteMode(shift map[string]time.Duration) {
	if !ids.Shim() {
		return
	}
	d.meta.ShimMode = true
	d.meta.Clocks.MonotonicShiftNs = int64(shift["monotonic"])
	d.meta.Clocks.BoottimeShiftNs = int64(shift["boottime"])
}

// noteExact marks the programs that go round the library that they have.
func (d *Dump) noteExact() {
	if !ids.Shim() {
		return
	}
	for _, p := range d.meta.Processes {
		p.ExactNumbers = p.ExactNumbers || host.NeedsNumbers(p.Exe) != ""
	}
}

// rawOf is the kernel's number of a process or thread where a job may know it by
// another, else 0.
func rawOf(n int) int32 {
	if !ids.Shim() {
		return 0
	}
	return int32(n)
}

// exeOf is the program that a process executes. One that was resumed without
// privileges executes, as far as the kernel knows, the seed.
func exeOf(p *freeze.Process) (string, error) {
	exe, err := procfs.Link(p.Eye, "exe")
	if known := ids.Exe(p.Pid); known != "" && strings.HasPrefix(exe, "/memfd:esky-seed") {
		return known, nil
	}
	return exe, err
}

// refuseUndumpable finds processes that have given up being dumpable (prctl(2)):
// only who has power over their user namespace may trace them, and without a
// namespace of the job's that is root.
func refuseUndumpable(pid int, comm string) []string {
	undumpable := func() bool {
		var st unix.Stat_t
		return unix.Stat(fmt.Sprintf("/proc/%d/maps", pid), &st) == nil && int(st.Uid) != unix.Geteuid()
	}
	if !ids.Shim() || unix.Geteuid() == 0 || !lasts(undumpable) {
		return nil
	}
	return []string{fmt.Sprintf("pid %d (%s) is not dumpable (PR_SET_DUMPABLE, or its program file cannot be read): "+
		"such a process can be saved only where the host allows user namespaces", ids.Virtual(pid), comm)}
}

// needs asks the library of a job without namespaces what the process has that
// translation does not serve.
func needs(pid int, maps []procfs.Mapping) (uint32, error) {
	return libraryWord(pid, maps, shim.IDsNeeds)
}

// libraryWord reads a word of that library, 0 where the process does not have it.
func libraryWord(pid int, maps []procfs.Mapping, where func() (uint64, error)) (uint32, error) {
	for i := range maps {
		m := &maps[i]
		if m.Offset != 0 || filepath.Base(m.Path) != shim.IDsName() {
			continue
		}
		at, err := where()
		if err != nil {
			return 0, err
		}
		at += m.Start
		there := func(m procfs.Mapping) bool { return m.Start <= at && at < m.End && m.Prot()&unix.PROT_WRITE != 0 }
		if !slices.ContainsFunc(maps, there) { // the loader maps all as a file at first
			return 0, unix.EFAULT
		}
		word := make([]byte, 4)
		if err := tracee.ReadMemory(pid, at, word); err != nil {
			return 0, err
		}
		return le32(word), nil
	}
	return 0, nil
}

// loading says that a program has only just been executed: the loader (ld.so(8)) is at
// work, and the library is not there yet, or has not looked at anything. Without
// namespaces such a process could not be given new numbers; in a moment it can.
func (q *process) loading() (bool, error) {
	if !ids.Shim() {
		return false, nil
	}
	found, err := libraryWord(q.Eye, q.maps, shim.IDsTidOffset)
	switch {
	case errors.Is(err, unix.EFAULT): // mapped, but for its data
		return true, nil
	case err != nil || found != 0:
		return false, err
	}
	ip := q.Leader().Regs.IP()
	return slices.ContainsFunc(q.maps, func(m procfs.Mapping) bool {
		name := filepath.Base(m.Path)
		return m.Start <= ip && ip < m.End && (strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-2."))
	}), nil
}

// refuseSysv finds processes that use System V objects, which without an IPC
// namespace are the host's: nothing says which are the job's. Of a program without
// the library only mapped segments show. (POSIX message queues are refused as files.)
func refuseSysv(pid int, comm string, maps []procfs.Mapping) []string {
	if !ids.Shim() {
		return nil
	}
	word, err := needs(pid, maps)
	if err != nil {
		return nil // it is ending
	}
	if slices.ContainsFunc(maps, func(m procfs.Mapping) bool { return strings.HasPrefix(m.Path, "/SYSV") }) {
		word |= shim.NeedsSegments
	}
	var all []string
	for _, kind := range []struct {
		bit  uint32
		name string
	}{{shim.NeedsSegments, "segments"}, {shim.NeedsSemaphores, "semaphores"}, {shim.NeedsQueues, "message queues"}} {
		if word&kind.bit != 0 {
			all = append(all, fmt.Sprintf("pid %d (%s) uses System V %s, which stay with the host: such a job can be saved only "+
				"where the host allows user namespaces", ids.Virtual(pid), comm, kind.name))
		}
	}
	return all
}
