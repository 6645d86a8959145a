// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
)

// Files that the job can rewrite, and files that another host does not have, are
// copied into the image, as they are at the freeze. How:
//
//	by reflink, where the store lies on the same file system and that can do it
//	after the thaw, if the file is at rest: its times and its size tell that
//	it has not changed since the freeze; else all is begun anew (movedError)
//	in the pause, to memory, if it has just been written or is mapped
//
// What appends only, or only grows, needs its length alone.
const (
	// pauseLimit is how much may be copied in the pause, a few tens of
	// milliseconds. What lies in memory anyway (/dev/shm) does not count.
	pauseLimit = 256 << 20
	// atRest is how long ago a file was written to that the next write must give
	// another time: the kernel's times may be as coarse as its clock tick.
	atRest = 50 * time.Millisecond
	// mostBusy is how many files may have been written to while they were copied
	// before the job is not stopped once more on their account.
	mostBusy = 4
	// treeLimit is how many files of a scratch directory are carried.
	treeLimit = 10000
	// firstCopy is the name of the first copy; smaller ones are those of objects.
	firstCopy = 1 << 31
)

// DefaultFilesLimit is how many bytes of files are copied into an image.
const DefaultFilesLimit = 1 << 30

// jobFile is a file of the job that has a name.
type jobFile struct {
	pb       *imagepb.JobFile
	via      string // by which this process can open it, whatever its name is by then
	readable bool   // some description can be read from
	leased   bool   // it must not be opened
	inMemory bool   // of a file system that is memory
	occupied uint64
	file     *os.File              // opened in the pause, to be copied later
	finish   func() error          // of a reflink
	frozen   func(io.Writer) error // its content, copied in the pause
}

// collectJobFiles makes a record of each file that the job has open or maps
// shared, and sees to the copies.
func (d *Dump) collectJobFiles() error {
	known := map[string]*jobFile{}
	for _, f := range d.files.list {
		d.noteOpenFile(known, f)
	}
	for _, q := range d.procs {
		d.noteMappedFiles(known, q)
		d.noteDirectory(known, d.processOf(q).Cwd)
		for _, own := range q.places {
			d.noteDirectory(known, own.place.GetCwd())
		}
	}
	for _, root := range d.o.PrivateScratch {
		d.noteTree(known, root)
	}
	for _, f := range known {
		d.jobFiles = append(d.jobFiles, f)
	}
	slices.SortFunc(d.jobFiles, func(a, b *jobFile) int { return strings.Compare(a.pb.Path, b.pb.Path) })
	for _, f := range d.jobFiles {
		d.meta.JobFiles = append(d.meta.JobFiles, f.pb)
	}
	return d.startCopies()
}

// fileAt returns the record of a path, a new one if need be; nil if it is not a
// file of that type any more.
func (d *Dump) fileAt(known map[string]*jobFile, path, via string, kind imagepb.JobFile_Type) *jobFile {
	if f := known[path]; f != nil {
		return f
	}
	flags := 0
	if via == path {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	st, err := jobfiles.Stat(via, flags)
	if err != nil {
		return nil
	}
	f := &jobFile{pb: &imagepb.JobFile{Path: path, Type: kind}, via: via}
	f.occupied = jobfiles.Describe(f.pb, &st)
	f.pb.Local = jobfiles.Local(path, d.o.Scratch)
	f.pb.AppendOnly = true // until a description says otherwise
	known[path] = f
	return f
}

func (d *Dump) noteOpenFile(known map[string]*jobFile, f *file) {
	flags := f.info.Flags
	switch {
	case flags&unix.O_PATH != 0:
	case f.pb.Kind == imagepb.OpenFile_DIRECTORY:
		d.noteDirectory(known, f.pb.Path)
	case f.pb.Kind == imagepb.OpenFile_INOTIFY:
		for _, w := range f.pb.Inotify {
			if st, err := os.Lstat(w.Path); err == nil && st.IsDir() {
				d.noteDirectory(known, w.Path)
			}
		}
	case f.pb.Kind == imagepb.OpenFile_FIFO && jobfiles.Local(f.pb.Path, d.o.Scratch):
		d.fileAt(known, f.pb.Path, f.path(), imagepb.JobFile_FIFO)
	case f.pb.Kind == imagepb.OpenFile_REGULAR:
		j := d.fileAt(known, f.pb.Path, f.path(), imagepb.JobFile_REGULAR)
		if j == nil {
			return
		}
		j.leased = j.leased || f.leased()
		j.readable = j.readable || accessMode(flags) != unix.O_WRONLY
		if accessMode(flags) != unix.O_RDONLY {
			j.pb.Written = true
			j.pb.AppendOnly = j.pb.AppendOnly && flags&unix.O_APPEND != 0
		}
	}
}

// noteDirectory remembers a directory that another host may not have.
func (d *Dump) noteDirectory(known map[string]*jobFile, path string) {
	if jobfiles.Local(path, d.o.Scratch) {
		d.fileAt(known, path, path, imagepb.JobFile_DIRECTORY)
	}
}

// noteMappedFiles notes what a process maps shared and has a name. Changes of it
// need not show in its times.
func (d *Dump) noteMappedFiles(known map[string]*jobFile, q *process) {
	for _, v := range d.processOf(q).Vmas {
		if v.Kind != imagepb.Vma_FILE || !v.Shared {
			continue
		}
		f := d.fileAt(known, v.Path, v.Path, imagepb.JobFile_REGULAR)
		if f == nil {
			continue
		}
		f.pb.Mapped, f.readable = true, true
		if v.Prot&unix.PROT_WRITE != 0 || q.mapsWritable(v) {
			f.pb.Written, f.pb.AppendOnly = true, false
			var st unix.Statfs_t
			f.inMemory = unix.Statfs(f.via, &st) == nil && st.Type == unix.TMPFS_MAGIC
		}
	}
}

// mapsWritable says whether a mapping was made from a descriptor that was open for
// writing: the program may have protected it since. The link's permissions tell
// (proc_pid_map_files(5)).
func (q *process) mapsWritable(v *imagepb.Vma) bool {
	var st unix.Stat_t
	err := unix.Lstat(fmt.Sprintf("/proc/%d/map_files/%x-%x", q.Eye, v.Start, v.End), &st)
	return err == nil && st.Mode&0o200 != 0
}

// noteTree takes all files of a directory that is the job's alone.
func (d *Dump) noteTree(known map[string]*jobFile, root string) {
	before := len(known)
	var found []*jobFile
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if len(known)-before > treeLimit {
			return fmt.Errorf("more than %d files", treeLimit)
		}
		kinds := map[fs.FileMode]imagepb.JobFile_Type{
			0: imagepb.JobFile_REGULAR, fs.ModeDir: imagepb.JobFile_DIRECTORY,
			fs.ModeSymlink: imagepb.JobFile_SYMLINK, fs.ModeNamedPipe: imagepb.JobFile_FIFO,
		}
		kind, ok := kinds[e.Type()]
		if !ok {
			return nil // a socket is made again by who listens
		}
		if f := d.fileAt(known, path, path, kind); f != nil {
			f.readable, f.pb.Local, f.pb.Written, f.pb.AppendOnly = true, true, true, false
			if kind == imagepb.JobFile_SYMLINK {
				f.pb.Target, _ = os.Readlink(path)
			}
			found = append(found, f)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		d.notes = append(d.notes, fmt.Sprintf("the job's scratch directory %s is not in the image, only what the job has open there: %v", root, err))
		for _, f := range found {
			if f.pb.Type == imagepb.JobFile_REGULAR && !d.isOpen(f.pb.Path) {
				delete(known, f.pb.Path)
			}
		}
		return
	}
	d.meta.Scratch = append(d.meta.Scratch, root)
}

func (d *Dump) isOpen(path string) bool {
	return slices.ContainsFunc(d.files.list, func(f *file) bool { return f.pb.Path == path })
}
