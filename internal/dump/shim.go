// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
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
	var st unix.Stat_t
	if !ids.Shim() || unix.Geteuid() == 0 || unix.Stat(fmt.Sprintf("/proc/%d/maps", pid), &st) != nil || int(st.Uid) == unix.Geteuid() {
		return nil
	}
	return []string{fmt.Sprintf("pid %d (%s) is not dumpable (PR_SET_DUMPABLE, or its program file cannot be read): "+
		"such a process can be saved only where the host allows user namespaces", ids.Virtual(pid), comm)}
}

// needsExact asks the library of a job without namespaces whether the process has
// mutexes whose owner the kernel knows by its number (src/ids_thread.c).
func (q *process) needsExact() (bool, error) {
	for i := range q.maps {
		m := &q.maps[i]
		if m.Offset != 0 || filepath.Base(m.Path) != shim.IDsName() {
			continue
		}
		at, err := shim.IDsExact()
		if err != nil {
			return false, err
		}
		word := make([]byte, 4)
		if err := tracee.ReadMemory(q.Eye, m.Start+at, word); err != nil {
			return false, err
		}
		return le32(word) != 0, nil
	}
	return false, nil
}
