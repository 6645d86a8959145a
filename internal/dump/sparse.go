// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// caller makes one system call in a process that has a view, and reads what it
// left in the process's area.
type caller struct {
	mincore func(addr, length uint64) ([]byte, error)
	most    uint64 // how many pages it tells of at once
}

// mincoreOf asks in the process itself: mincore(2) tells of the caller's memory.
func (q *process) mincoreOf() caller {
	vec := q.stub.Area + dataAt
	return caller{most: q.stub.AreaSize - dataAt, mincore: func(addr, length uint64) ([]byte, error) {
		call := tracee.Sys("mincore", unix.SYS_MINCORE, addr, length, vec)
		if err := q.batch(q.Leader(), 0, call).Run(q.stub.Code); err != nil {
			return nil, err
		}
		if err := call.Err(); err != nil {
			return nil, err
		}
		there := make([]byte, length/pages.PageSize)
		return there, q.mem.ReadAt(there, vec)
	}}
}

// mincoreOfAgent is the same of a segment that the agent has attached.
func (d *Dump) mincoreOfAgent() caller {
	const most = 1 << 20
	return caller{most: most, mincore: func(addr, length uint64) ([]byte, error) {
		d.agent.Reset()
		vec := d.agent.New(most)
		if err := d.agent.Do(tracee.Sys("mincore", unix.SYS_MINCORE, addr, length, vec)); err != nil {
			return nil, err
		}
		return d.agent.Read(vec, int(length/pages.PageSize))
	}}
}

// worthAsking is how large shared memory is that is looked at for holes: less is
// copied as quickly.
const worthAsking = 1 << 20

// present lists what there is of a part of an object, as offsets in it. To read
// a hole of shared memory would fill it (shmem is given a page by each access),
// and there may be terabytes of them. What is there the page table of no one
// process tells: the process that wrote a page may be gone. mincore(2) does, of
// all of the object, but for pages in swap: where there are any all is read.
func (d *Dump) present(o *object, v view, part pages.Range) ([]pages.Range, error) {
	all := []pages.Range{part}
	inMemory := o.pb.Kind == imagepb.Object_SHARED_ANON || o.pb.Kind == imagepb.Object_SYSV || o.pb.Kind == imagepb.Object_MEMFD
	if !inMemory || part.Len() < worthAsking {
		return all, nil
	}
	ask := d.mincoreOfAgent()
	if v.q != d.agentProcess {
		ask = v.q.mincoreOf()
	}
	there, err := ask.present(v.start+part.Start-v.offset, part)
	if err != nil || len(there) == 1 && there[0] == part {
		return there, err
	}
	swapped, err := d.swapped(v)
	if err != nil || swapped == 0 {
		return there, err
	}
	if holes := part.Len() - total(there); holes > swapped+mostHolesFilled {
		return nil, &RefusedError{Reasons: []string{fmt.Sprintf("%s has %d MiB of holes and %d MiB in swap, and the kernel does not tell which is which: turn swap off",
			o.pb.Name, (holes-swapped)>>20, swapped>>20)}}
	}
	return all, nil
}

// mostHolesFilled is how much memory the job may get for no other reason than
// that some of its own is in swap.
const mostHolesFilled = 1 << 30

func total(ranges []pages.Range) (n uint64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

func (c caller) present(addr uint64, part pages.Range) ([]pages.Range, error) {
	var there []pages.Range
	for at := part.Start; at < part.End; {
		length := min(part.End-at, c.most*pages.PageSize)
		vec, err := c.mincore(addr+at-part.Start, length)
		if err != nil {
			return nil, fmt.Errorf("which pages are there: %w", err)
		}
		there = append(there, residentRanges(vec, at)...)
		at += length
	}
	return pages.Union(there), nil
}

// residentRanges reads what mincore(2) has written of the pages from offset at.
func residentRanges(vec []byte, at uint64) (there []pages.Range) {
	const pageThere = 1 // the other bits are undefined
	for i := 0; i < len(vec); i++ {
		if vec[i]&pageThere == 0 {
			continue
		}
		j := i + 1
		for j < len(vec) && vec[j]&pageThere != 0 {
			j++
		}
		there = append(there, pages.Range{Start: at + uint64(i)*pages.PageSize, End: at + uint64(j)*pages.PageSize})
		i = j
	}
	return there
}

// swapped is how much of a view is in swap: smaps knows it of all of the object
// behind a shared mapping, not only of what this process has touched. It takes
// long where a process is large, and most hosts of batch jobs use no swap.
func (d *Dump) swapped(v view) (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil && info.Totalswap == info.Freeswap {
		return 0, nil
	}
	pid := v.q.hostPid(d)
	maps, err := procfs.ReadSmaps(pid)
	if err != nil {
		return 0, err
	}
	i := containing(maps, v.start)
	if i < 0 {
		return 0, fmt.Errorf("pid %d: no mapping at %#x", pid, v.start)
	}
	return maps[i].Swap, nil
}

// hostPid is the number of a process or of the agent.
func (q *process) hostPid(d *Dump) int {
	if q == d.agentProcess {
		return d.agent.Pid
	}
	return q.Eye
}

// copyRanges copies ranges now and gives a function that reads the copy.
func copyRanges(ranges []pages.Range, read func(b []byte, at uint64) error) (func(b []byte, at uint64) error, error) {
	if len(ranges) == 0 {
		return read, nil
	}
	copied, err := anonymous(total(ranges))
	if err != nil {
		return nil, err
	}
	starts := make([]uint64, len(ranges)) // in the copy
	next := uint64(0)
	for i, r := range ranges {
		starts[i] = next
		if err := read(copied[next:next+r.Len()], r.Start); err != nil {
			return nil, err
		}
		next += r.Len()
	}
	return func(b []byte, at uint64) error {
		i, found := slices.BinarySearchFunc(ranges, at, func(r pages.Range, at uint64) int {
			switch {
			case r.End <= at:
				return -1
			case r.Start > at:
				return 1
			}
			return 0
		})
		if !found || at+uint64(len(b)) > ranges[i].End {
			return fmt.Errorf("%d bytes at %#x are not in the copy", len(b), at)
		}
		copy(b, copied[starts[i]+at-ranges[i].Start:])
		return nil
	}, nil
}

// saveSparse saves what there is of a file. A file that is read when the job has
// ended stays open until the worker ends.
func (d *Dump) saveSparse(o *object, file *os.File, there []pages.Range) error {
	s := pages.Source{Object: o.index, Ranges: there, ReadAt: func(b []byte, at uint64) error {
		n, err := file.ReadAt(b, int64(at))
		if errors.Is(err, io.EOF) { // within the last page
			clear(b[n:])
			err = nil
		}
		return err
	}}
	if !d.still() {
		defer file.Close()
		var err error
		if s.ReadAt, err = copyRanges(there, s.ReadAt); err != nil {
			return err
		}
	}
	d.shared = append(d.shared, s)
	return nil
}

// data lists the pages of a file that are not all hole (lseek(2)).
func data(file *os.File, size uint64) ([]pages.Range, error) {
	const mask = pages.PageSize - 1
	var all []pages.Range
	for at := int64(0); at < int64(size); {
		start, err := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if err != nil {
			return nil, err
		}
		end, err := file.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		all = append(all, pages.Range{Start: uint64(start) &^ mask, End: (uint64(end) + mask) &^ mask})
		at = end
	}
	return pages.Union(all), nil
}
