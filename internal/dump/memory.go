// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
)

// object is memory or a file that no path leads to: it is saved with the image.
type object struct {
	pb    *imagepb.Object
	index uint32
	file  *file // a descriptor of it, if the job has one
	views []view
}

// view is a mapping of an object.
type view struct {
	q      *process
	start  uint64
	offset uint64
	length uint64
}

// collectVmas describes the mappings of a process.
func (d *Dump) collectVmas(q *process, pb *imagepb.Process) error {
	for i := range q.maps {
		m := &q.maps[i]
		if m.Path == "[vsyscall]" {
			continue
		}
		v := &imagepb.Vma{
			Start: m.Start, End: m.End, Prot: uint32(m.Prot()), Shared: m.Shared(), Offset: m.Offset,
		}
		if err := d.kindOf(q, m, v); err != nil {
			return fmt.Errorf("mapping %#x-%#x %s: %w", m.Start, m.End, m.Path, err)
		}
		pb.Vmas = append(pb.Vmas, v)
	}
	if d.still() {
		return nil
	}
	return d.copyNotForked(q, pb)
}

// copyNotForked copies, in the pause, what the snapshot will not have. A program
// that advises so at all may do it all the time (V8 does, for its heap): what was
// seen before the freeze only tells of whom to ask again.
func (d *Dump) copyNotForked(q *process, pb *imagepb.Process) error {
	if len(d.before.notForked[q.HostPid]) == 0 {
		return nil
	}
	maps, err := procfs.ReadSmaps(q.Eye)
	if err != nil {
		return err
	}
	delete(d.before.notForked, q.HostPid)
	delete(d.before.locked, q.HostPid)
	for i := range maps {
		d.before.note(q.HostPid, &maps[i])
	}
	for _, m := range d.before.notForked[q.HostPid] {
		if i := indexOf(q.maps, m.Start); i < 0 || q.maps[i].End != m.End {
			return changedMeanwhile(q.Pid, m.Start)
		}
		s := pages.Source{Pid: int32(q.Pid)}
		pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", q.Eye))
		if err != nil {
			return err
		}
		s.Ranges, err = pages.Scan(pagemap, m.Start, m.End)
		guards, guardErr := pages.Guards(pagemap, m.Start, m.End)
		pagemap.Close()
		if err = cmp.Or(err, guardErr); err != nil {
			return err
		}
		for _, v := range pb.Vmas {
			if v.Start == m.Start {
				v.Guards = pages.ToExtents(guards)
			}
		}
		copied, err := anonymous(m.Size())
		if err != nil {
			return err
		}
		for _, r := range s.Ranges {
			if err := q.mem.ReadAt(copied[r.Start-m.Start:r.End-m.Start], r.Start); err != nil {
				return err
			}
		}
		s.ReadAt = func(b []byte, at uint64) error {
			copy(b, copied[at-m.Start:])
			return nil
		}
		d.shared = append(d.shared, s)
	}
	return nil
}

// changedMeanwhile is the error of a mapping that fork(2) leaves out and that was
// not yet so, or was another, when the job was looked at before the freeze.
func changedMeanwhile(pid int, at uint64) error {
	return fmt.Errorf("pid %d: its memory at %#x, which fork leaves out (madvise), changed in the moment of the checkpoint", pid, at)
}

func (d *Dump) kindOf(q *process, m *procfs.Mapping, v *imagepb.Vma) error {
	switch {
	case m.Path == "[vdso]":
		v.Kind = imagepb.Vma_VDSO
	case m.Path == "[vvar]", m.Path == "[vvar_vclock]":
		v.Kind, v.Name = imagepb.Vma_VVAR, m.Path
	case isSegment(m):
		o, err := d.segmentObject(m)
		if err != nil {
			return err
		}
		o.views = append(o.views, view{q, m.Start, m.Offset, m.Size()})
		v.Kind, v.Object = imagepb.Vma_OBJECT, o.index
	case m.Shared() && m.Deleted:
		if name, ok := linkedAs(m); ok {
			v.Kind, v.Path = imagepb.Vma_FILE, name
			return nil
		}
		o, err := d.mappedObject(m)
		if err != nil {
			return err
		}
		o.views = append(o.views, view{q, m.Start, m.Offset, m.Size()})
		v.Kind, v.Object, v.Name = imagepb.Vma_OBJECT, o.index, m.SharedName
	case m.Ino != 0 && !m.Deleted && m.Path != "/dev/zero":
		v.Kind, v.Path = imagepb.Vma_FILE, m.Path
	default:
		// Anonymous memory; also a private mapping of a file that is gone, all
		// of whose pages are then saved as if it were anonymous.
		v.Kind, v.Name = imagepb.Vma_ANON, m.Path
	}
	return nil
}

// mappedObject finds or makes the object behind a shared mapping without a path.
func (d *Dump) mappedObject(m *procfs.Mapping) (*object, error) {
	o := d.object(m.Dev, m.Ino)
	if o.file == nil {
		o.pb.Size = max(o.pb.Size, m.Offset+m.Size())
	}
	if o.pb.Name == "" {
		o.pb.Name = m.Path
		switch {
		case m.Path == "/dev/zero", m.Path == hugeAnonymous:
			o.pb.Kind = imagepb.Object_SHARED_ANON
		case strings.HasPrefix(m.Path, "/memfd:"):
			o.pb.Kind, o.pb.Name = imagepb.Object_MEMFD, strings.TrimPrefix(m.Path, "/memfd:")
		default:
			o.pb.Kind, o.pb.Mode = imagepb.Object_UNLINKED, 0o600 // no descriptor tells which
		}
	}
	return o, nil
}

func (d *Dump) object(dev, ino uint64) *object {
	for _, o := range d.objects {
		if o.pb.Dev == dev && o.pb.Ino == ino {
			return o
		}
	}
	o := &object{pb: &imagepb.Object{Dev: dev, Ino: ino}, index: uint32(len(d.objects))}
	d.objects = append(d.objects, o)
	d.meta.Objects = append(d.meta.Objects, o.pb)
	return o
}

// fileObject notes a file that is open and has no name.
func (d *Dump) fileObject(f *file) (uint32, error) {
	o := d.object(f.st.Dev, f.st.Ino)
	o.file = f
	o.pb.Kind, o.pb.Name = imagepb.Object_UNLINKED, strings.TrimSuffix(f.link, " (deleted)")
	o.pb.Size, o.pb.Mode = uint64(f.st.Size), f.st.Mode
	if name, ok := strings.CutPrefix(o.pb.Name, "/memfd:"); ok {
		o.pb.Kind, o.pb.Name = imagepb.Object_MEMFD, name
		fd, err := f.borrow()
		if err != nil {
			return 0, err
		}
		defer unix.Close(fd)
		if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err == nil {
			o.pb.Seals = uint32(seals)
		}
	}
	return o.index, nil
}

// collectShared saves, while the job stands still, what a snapshot would not
// keep: shared memory and files without a name.
func (d *Dump) collectShared() error {
	for _, o := range d.objects {
		var err error
		if o.file != nil {
			err = d.saveFile(o)
		} else {
			err = d.saveViews(o)
		}
		if err != nil {
			return fmt.Errorf("save %s: %w", o.pb.Name, err)
		}
	}
	return nil
}

// saveFile copies the file into the image; one with holes as pages, which leaves
// those out.
func (d *Dump) saveFile(o *object) error {
	r, err := o.file.openAgain(unix.O_RDONLY)
	if err != nil {
		return err
	}
	there, err := data(r, o.pb.Size)
	if err == nil && total(there)+worthAsking < o.pb.Size {
		return d.saveSparse(o, r, there)
	}
	defer r.Close()
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	o.pb.File = strconv.Itoa(int(o.index))
	w, err := d.writer.CreateFile(o.pb.File)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		_ = w.Close()
		return err
	}
	return w.Close()
}

// saveViews makes sources of the object's memory as the processes map it, each
// part once.
func (d *Dump) saveViews(o *object) error {
	var covered []pages.Range
	for _, v := range o.views {
		all := pages.Range{Start: v.offset, End: v.offset + v.length}
		for _, part := range without(all, covered) {
			covered = append(covered, part)
			if err := d.saveView(o, v, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// without returns what is left of a range that some others have parts of.
func without(r pages.Range, others []pages.Range) []pages.Range {
	rest := []pages.Range{r}
	for _, o := range others {
		var next []pages.Range
		for _, r := range rest {
			if before := min(r.End, o.Start); r.Start < before {
				next = append(next, pages.Range{Start: r.Start, End: before})
			}
			if after := max(r.Start, o.End); after < r.End {
				next = append(next, pages.Range{Start: after, End: r.End})
			}
		}
		rest = next
	}
	return rest
}

// saveView saves a part of an object through one mapping of it: in place when
// the job stays frozen, else copied now.
func (d *Dump) saveView(o *object, v view, part pages.Range) error {
	there, err := d.present(o, v, part)
	if err != nil {
		return err
	}
	s := pages.Source{Object: o.index, Ranges: there}
	read := func(b []byte, at uint64) error { return v.q.mem.ReadAt(b, v.start+at-v.offset) }
	if o.pb.Kind == imagepb.Object_UNLINKED {
		read = orZero(read)
	}
	s.ReadAt = read
	if !d.still() {
		if s.ReadAt, err = copyRanges(there, read); err != nil {
			return err
		}
	}
	d.shared = append(d.shared, s)
	return nil
}

// anonymous is memory outside the Go heap, which the end of the worker frees.
func anonymous(n uint64) ([]byte, error) {
	return unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

// memory lists what is to be stored: of each process the pages that are its
// own, read from its snapshot or, frozen, from itself.
func (d *Dump) memory() ([]pages.Source, error) {
	sources := d.shared
	for _, q := range d.eldersFirst() {
		from := q.Eye
		if q.snapshot != 0 {
			from = q.snapshot
		}
		pb := d.processOf(q)
		special := d.before.notForked[q.HostPid]
		if q.snapshot == 0 {
			special = nil
		}
		if err := d.addFlags(q, pb, from, special); err != nil {
			return nil, err
		}
		s, err := privateMemory(q, pb, from, special)
		if err != nil {
			return nil, fmt.Errorf("pid %d: %w", q.Pid, err)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// eldersFirst has parents before their children: what a fork has left to both is
// stored as the parent's.
func (d *Dump) eldersFirst() []*process {
	depth := map[int]int{}
	for _, q := range d.procs {
		depth[q.HostPid] = d.depth(q.Stat.Ppid)
	}
	all := slices.Clone(d.procs)
	slices.SortStableFunc(all, func(a, b *process) int { return cmp.Compare(depth[a.HostPid], depth[b.HostPid]) })
	return all
}

// depth counts the forebears in the job of a child of host pid ppid.
func (d *Dump) depth(ppid int) int {
	n := 0
	for again := true; again && n < len(d.procs); {
		again = false
		for _, q := range d.procs {
			if q.HostPid == ppid {
				ppid, again = q.Stat.Ppid, true
				n++
				break
			}
		}
	}
	return n
}

func (d *Dump) processOf(q *process) *imagepb.Process {
	for _, pb := range d.meta.Processes {
		if int(pb.Pid) == q.Pid {
			return pb
		}
	}
	return nil
}

// mappedFiles are the files whose mappings the image needs on the next host.
func (d *Dump) mappedFiles() []string {
	var all []string
	for _, pb := range d.meta.Processes {
		for _, v := range pb.Vmas {
			if v.Kind == imagepb.Vma_FILE && !v.Shared && !slices.Contains(all, v.Path) {
				all = append(all, v.Path)
			}
		}
	}
	slices.Sort(all)
	return all
}
