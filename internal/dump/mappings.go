// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// beforehand is what smaps told, by host pid, before the freeze and what a
// snapshot will not tell.
type beforehand struct {
	notForked map[int][]procfs.Mapping // what a fork leaves out or wipes
	locked    map[int][]procfs.Mapping // a fork unlocks all memory (mlock(2))
	cost      int64                    // at most, of a snapshot in bytes (room.go)
}

func (b *beforehand) note(pid int, m *procfs.Mapping) {
	// MADV_DONTFORK, MADV_WIPEONFORK of madvise(2)
	if m.Has("dc") && !m.Has("io") && !m.Has("pf") || m.Has("wf") && !m.Has(droppable) {
		b.notForked[pid] = append(b.notForked[pid], *m)
	}
	b.cost += snapshotCost(m)
	if m.Has("lo") {
		b.locked[pid] = append(b.locked[pid], *m)
	}
}

// droppable marks memory that the kernel may take away at any time, and then is
// zero (MAP_DROPPABLE of mmap(2)). So it need not be saved, and better is not: it
// is where a C library keeps the state of its random numbers, which two resumes
// of an image should not share.
const droppable = "dp"

// addFlags copies VmFlags to the mappings. smaps walks all page tables, so it
// is read here and not in the pause.
func (d *Dump) addFlags(q *process, pb *imagepb.Process, from int, special []procfs.Mapping) error {
	smaps, err := procfs.ReadSmaps(from)
	if err != nil {
		return err
	}
	if len(smaps) == 0 && q.snapshot != 0 {
		return q.lostSnapshot()
	}
	smaps = append(smaps, special...)
	slices.SortStableFunc(smaps, func(a, b procfs.Mapping) int { return cmp.Compare(a.Start, b.Start) })
	snapshot := q.snapshot != 0
	for _, v := range pb.Vmas {
		i := containing(smaps, v.Start)
		if snapshot && (i < 0 || smaps[i].Has("wf") && !smaps[i].Has(droppable) && indexOf(special, v.Start) < 0) {
			return changedMeanwhile(int(pb.Pid), v.Start)
		}
		if i < 0 {
			continue
		}
		if why := refuseMap(&smaps[i]); why != "" {
			return &RefusedError{Reasons: []string{fmt.Sprintf("pid %d maps %s at %#x: %s", pb.Pid, v.Path, v.Start, why)}}
		}
		v.Flags = strings.Join(smaps[i].VmFlags, " ")
		if isHuge(&smaps[i]) {
			v.HugePageSize = smaps[i].KernelPageSize
		}
		if locked := d.before.locked[q.HostPid]; snapshot {
			if i := containing(locked, v.Start); i >= 0 && !smaps[containing(smaps, v.Start)].Has("lo") {
				v.Flags += " lo"
				if locked[i].Has("lf") {
					v.Flags += " lf"
				}
			}
		}
	}
	return nil
}

// containing finds the mapping that has an address, -1 for none.
func containing(maps []procfs.Mapping, at uint64) int {
	i, found := slices.BinarySearchFunc(maps, at, func(m procfs.Mapping, at uint64) int {
		switch {
		case m.End <= at:
			return -1
		case m.Start > at:
			return 1
		}
		return 0
	})
	if !found {
		return -1
	}
	return i
}

// indexOf finds the mapping that starts at an address, -1 for none.
func indexOf(maps []procfs.Mapping, start uint64) int {
	if i := containing(maps, start); i >= 0 && maps[i].Start == start {
		return i
	}
	return -1
}

// privateMemory lists the pages that a process has of its own, and notes the
// guard regions among them, which cannot be read.
func privateMemory(q *process, pb *imagepb.Process, from int, special []procfs.Mapping) (pages.Source, error) {
	s := pages.Source{Pid: pb.Pid}
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", from))
	if err != nil {
		return s, err
	}
	defer pagemap.Close()
	mem, err := pages.OpenMemory(from) // stays open until the worker ends
	if err != nil {
		return s, err
	}
	s.ReadAt = mem.ReadAt
	if slices.ContainsFunc(q.maps, func(m procfs.Mapping) bool { return m.Deleted }) {
		s.ReadAt = orZero(mem.ReadAt)
	}
	for _, v := range pb.Vmas {
		if v.Shared || v.Kind != imagepb.Vma_ANON && v.Kind != imagepb.Vma_FILE || indexOf(special, v.Start) >= 0 {
			continue // one of the special ones is copied already
		}
		guards, err := pages.Guards(pagemap, v.Start, v.End)
		if err != nil {
			return s, err
		}
		v.Guards = pages.ToExtents(guards)
		ranges := []pages.Range{{Start: v.Start, End: v.End}}
		switch {
		case strings.Contains(" "+v.Flags+" ", " "+droppable+" "):
			continue
		case q.maps[indexOf(q.maps, v.Start)].Deleted && v.HugePageSize == 0: // all of it, see kindOf
			ranges = pages.Subtract(ranges, guards)
		default:
			if ranges, err = pages.Scan(pagemap, v.Start, v.End); err != nil {
				return s, err
			}
		}
		s.Ranges = append(s.Ranges, ranges...)
	}
	return s, nil
}

// askFutureLock finds out whether memory that the process maps from now on is
// locked (MCL_FUTURE of mlockall(2)), which nothing tells but a new mapping.
func (q *process) askFutureLock(pb *imagepb.Process) error {
	if q.Status.VmLck == 0 {
		return nil
	}
	before, err := procfs.ReadStatus(q.Eye, 0)
	if err != nil {
		return err
	}
	mmap := tracee.Sys("mmap", unix.SYS_MMAP, 0, pages.PageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	err = q.batch(q.Leader(), 0, mmap).Run(q.stub.Code)
	if mmap.Err() != nil { // no room below RLIMIT_MEMLOCK
		pb.LockFuture = unix.MCL_FUTURE
		return nil
	}
	if err != nil {
		return err
	}
	at := uint64(mmap.Result)
	after, err := procfs.ReadStatus(q.Eye, 0)
	if err != nil {
		return err
	}
	vec := q.stub.Area + dataAt
	if err := q.batch(q.Leader(), 0,
		tracee.Sys("mincore", unix.SYS_MINCORE, at, pages.PageSize, vec),
		tracee.Sys("munmap", unix.SYS_MUNMAP, at, pages.PageSize)).Run(q.stub.Code); err != nil {
		return err
	}
	present := make([]byte, 1)
	if err := q.mem.ReadAt(present, vec); err != nil {
		return err
	}
	if after.VmLck > before.VmLck {
		pb.LockFuture = unix.MCL_FUTURE
		if present[0]&1 == 0 {
			pb.LockFuture |= unix.MCL_ONFAULT
		}
	}
	return nil
}
