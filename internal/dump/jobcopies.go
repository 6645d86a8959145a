// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
)

// wantsCopy: files whose length does not tell all.
func (f *jobFile) wantsCopy() bool {
	return f.pb.Type == imagepb.JobFile_REGULAR && (f.pb.Local || f.pb.Written && !f.pb.AppendOnly)
}

// rank orders files by how much is lost without a copy of them.
func (f *jobFile) rank() int {
	switch {
	case f.inMemory:
		return 0
	case f.pb.Mapped && f.pb.Written:
		return 1
	case f.pb.Local:
		return 2
	case f.readable:
		return 3
	}
	return 4 // write only: mostly written from start to end
}

// startCopies does what must be done in the pause.
func (d *Dump) startCopies() error {
	var all []*jobFile
	for _, f := range d.jobFiles {
		if f.wantsCopy() {
			all = append(all, f)
		}
	}
	slices.SortStableFunc(all, func(a, b *jobFile) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.occupied, b.occupied))
	})
	limit, inPause := d.o.FilesLimit, uint64(0)
	if limit == 0 {
		limit = DefaultFilesLimit
	}
	var copied uint64
	now := time.Now()
	for i, f := range all {
		name := strconv.Itoa(firstCopy + i)
		if f.leased {
			f.pb.NoCopy = "the job has a lease on it, which would be broken by reading it"
			continue
		}
		file, err := jobfiles.Open(f.via, os.O_RDONLY)
		if err != nil {
			f.pb.NoCopy = "it cannot be read"
			continue
		}
		done, err := d.reflink(f, file, name)
		if err != nil || done {
			file.Close()
			if err != nil {
				return err
			}
			continue
		}
		moves := !d.o.Stop && (f.pb.Mapped && f.pb.Written || slices.Contains(d.o.busy, f.pb.Path) || now.Sub(time.Unix(0, max(f.pb.MtimeNs, f.pb.CtimeNs))) < atRest)
		switch {
		case !f.inMemory && copied+f.occupied > limit:
			f.pb.NoCopy = fmt.Sprintf("with it, the files in the image would be larger than %d bytes (ESKY_FILES_LIMIT)", limit)
		case moves && !f.inMemory && inPause+f.occupied > pauseLimit:
			f.pb.NoCopy = "it is too large to be copied while the job stands still, and is in use"
		case moves:
			if f.frozen, err = freezeContent(file, f.pb.Size); err != nil {
				file.Close()
				return fmt.Errorf("copy %s: %w", f.pb.Path, err)
			}
			inPause += f.occupied
		}
		if f.pb.NoCopy != "" || f.frozen != nil {
			file.Close()
		} else {
			f.file = file
		}
		if f.pb.NoCopy == "" {
			copied += f.occupied
			f.pb.Copy = name
		} else {
			d.noteNoCopy(f)
		}
	}
	return nil
}

// noteNoCopy warns where the lack of a copy is likely to matter.
func (d *Dump) noteNoCopy(f *jobFile) {
	switch {
	case f.pb.Mapped && f.pb.Written, f.readable && f.pb.Written:
		d.notes = append(d.notes, fmt.Sprintf("%s is not in the image: %s. If it is rewritten after the checkpoint, it cannot be put back", f.pb.Path, f.pb.NoCopy))
	case f.pb.Local:
		d.notes = append(d.notes, fmt.Sprintf("%s is not in the image: %s. Another host will not have it", f.pb.Path, f.pb.NoCopy))
	}
}

// reflink tries to have the file system copy the file. It does not for small
// ones, which are as quickly copied: for each the kernel writes out what is dirty.
func (d *Dump) reflink(f *jobFile, file *os.File, name string) (done bool, err error) {
	const least = 1 << 20
	if f.occupied < least || f.inMemory {
		return false, nil
	}
	f.finish, err = d.writer.Reflink(name, file)
	if errors.Is(err, image.ErrNoReflink) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f.pb.Copy = name
	return true, nil
}

// freezeContent copies what is in a file, but for its holes, to memory.
func freezeContent(file *os.File, size uint64) (func(io.Writer) error, error) {
	type part struct {
		at   int64
		data []byte
	}
	var parts []part
	for at := int64(0); at < int64(size); {
		start, err := file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		end := int64(size)
		if err != nil {
			start = at // it knows no holes
		} else if e, err := file.Seek(start, unix.SEEK_HOLE); err == nil {
			end = min(e, end)
		}
		if start >= int64(size) {
			break
		}
		data, err := anonymous(uint64(end - start))
		if err != nil {
			return nil, err
		}
		n, err := file.ReadAt(data, start)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		parts = append(parts, part{start, data[:n]})
		at = end
	}
	return func(w io.Writer) error {
		at := int64(0)
		for _, p := range parts {
			if err := writeHole(w, p.at-at); err != nil {
				return err
			}
			if _, err := w.Write(p.data); err != nil {
				return err
			}
			at = p.at + int64(len(p.data))
			_ = unix.Munmap(p.data[:cap(p.data)])
		}
		return writeHole(w, int64(size)-at)
	}, nil
}

var nothing = make([]byte, 1<<20)

func writeHole(w io.Writer, n int64) error {
	for n > 0 {
		k := min(n, int64(len(nothing)))
		if _, err := w.Write(nothing[:k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// movedError: the job has written to files while they were copied, which can be copied
// while it stands still.
type movedError struct{ paths []string }

func (e *movedError) Error() string {
	return strings.Join(e.paths, ", ") + ": changed while it was being copied"
}

// storeJobFiles writes the copies into the image, when the job runs again.
func (d *Dump) storeJobFiles() error {
	var moved movedError
	for _, f := range d.jobFiles {
		if f.pb.Copy == "" {
			continue
		}
		var err error
		if f.finish != nil {
			err = f.finish()
		} else {
			err = d.storeJobFile(f)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", f.pb.Path, err)
		}
		if f.pb.Copy == "" && f.readable && f.pb.Written && f.occupied <= pauseLimit && len(d.o.busy) < mostBusy {
			moved.paths = append(moved.paths, f.pb.Path)
		}
	}
	if moved.paths != nil {
		return &moved
	}
	return nil
}

// storeJobFile writes the copy of one file, or says that there is none.
func (d *Dump) storeJobFile(f *jobFile) error {
	w, err := d.writer.CreateFile(f.pb.Copy)
	if err != nil {
		return err
	}
	if f.frozen != nil {
		if err := f.frozen(w); err != nil {
			return errors.Join(err, w.Close())
		}
		return w.Close()
	}
	defer f.file.Close()
	err = copySparse(w, f.file, f.pb.Size)
	if !f.isAsItWas() {
		f.pb.Copy, f.pb.NoCopy = "", "it changed while it was being copied"
		d.noteNoCopy(f)
		return d.writer.Discard(w)
	}
	return errors.Join(err, w.Close())
}

// isAsItWas says that a file that was copied has not changed since the freeze.
func (f *jobFile) isAsItWas() bool {
	var now imagepb.JobFile
	st, err := jobfiles.Stat(fmt.Sprintf("/proc/self/fd/%d", f.file.Fd()), 0)
	if err != nil {
		return false
	}
	jobfiles.Describe(&now, &st)
	return now.Size == f.pb.Size && now.MtimeNs == f.pb.MtimeNs
}

// copySparse copies a file and skips what it has no data for.
func copySparse(w io.Writer, file *os.File, size uint64) error {
	b := make([]byte, len(nothing))
	for at := int64(0); at < int64(size); {
		start, err := file.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // only a hole is left
			start = int64(size)
		case err != nil: // it knows no holes
			start = at
		}
		start = min(start, int64(size))
		if err := writeHole(w, start-at); err != nil {
			return err
		}
		n, err := file.ReadAt(b[:min(int64(len(b)), int64(size)-start)], start)
		if n == 0 && start < int64(size) {
			return fmt.Errorf("read at %d: %w", start, cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		at = start + int64(n)
	}
	return nil
}
