// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// FilePolicy says what to do about files that have changed since the checkpoint.
type FilePolicy string

// The policies of run's --files.
const (
	Rollback FilePolicy = "rollback" // cut back what has grown; refuse what others changed
	Accept   FilePolicy = "accept"   // cut back what has grown; take all else as it is
	Strict   FilePolicy = "strict"   // refuse any change
)

// ChangedError says that files are not what they were at the checkpoint.
type ChangedError struct{ Reasons []string }

func (e *ChangedError) Error() string { return strings.Join(e.Reasons, "; ") }

// files puts the job's files back to what they were at the checkpoint.
type files struct {
	policy  FilePolicy
	saved   string
	meta    *imagepb.Image
	note    func(format string, args ...any)
	reasons []string
	longer  []*imagepb.OpenFile // streams whose new lines stay
	cuts    []func() error
}

// check compares all files with what they were, and changes none.
func (f *files) check(init int) error {
	done := map[string]bool{}
	for _, o := range f.meta.OpenFiles {
		if o.Kind != imagepb.OpenFile_REGULAR && o.Kind != imagepb.OpenFile_STDIO || o.Path == "" {
			continue
		}
		path := o.Path
		if o.Kind == imagepb.OpenFile_STDIO {
			if !f.sameStream(init, o) {
				continue
			}
			path = streamPath(init, o)
		}
		if done[o.Path] {
			continue
		}
		done[o.Path] = true
		f.compare(o, path)
	}
	if len(f.reasons) > 0 {
		return &ChangedError{f.reasons}
	}
	return nil
}

// putBack cuts back what has to be.
func (f *files) putBack() error {
	for _, cut := range f.cuts {
		if err := cut(); err != nil {
			return err
		}
	}
	return nil
}

func (f *files) refuse(format string, args ...any) {
	f.reasons = append(f.reasons, fmt.Sprintf(format, args...))
}

// compare compares a file with what it was, and decides what is to be done.
func (f *files) compare(o *imagepb.OpenFile, path string) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		f.refuse("%s, which the job has open, cannot be found: %v", o.Path, err)
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	size, written := uint64(st.Size), f.written(o.Path)
	switch {
	case size == o.Size && st.Mtim.Nano() == o.MtimeNs:
	case written && size > o.Size && o.Kind == imagepb.OpenFile_STDIO && onlyMessages(path, int64(o.Size)):
		f.longer = append(f.longer, o)
	case written && size > o.Size && o.Kind == imagepb.OpenFile_STDIO && unix.Access(path, unix.R_OK|unix.W_OK) != nil:
		f.longer = append(f.longer, o)
		f.note("%s has grown by %d bytes since the checkpoint, and only its owner may cut them off: they stay", o.Path, size-o.Size)
	case written && size > o.Size && f.policy != Strict:
		f.cuts = append(f.cuts, func() error { return f.cutBack(path, o) })
	case f.policy == Accept:
		f.note("%s has changed since the checkpoint and is taken as it is", o.Path)
	case written && size == o.Size && f.policy == Rollback:
		f.note("%s was written to since the checkpoint; its length is the same, so it is taken as it is", o.Path)
	case written && size < o.Size && o.Kind == imagepb.OpenFile_STDIO:
		f.note("%s was cut to %d bytes since the checkpoint, when it had %d: output of the job is lost (is it opened for appending?)", o.Path, size, o.Size)
	default:
		f.refuse("%s has changed since the checkpoint: it had %d bytes and has %d (--files=accept takes it as it is)", o.Path, o.Size, size)
	}
}

// onlyMessages says that all that a stream got since the checkpoint are lines
// of esky and of the scheduler, which are worth keeping where they are.
func onlyMessages(path string, from int64) bool {
	const most = 64 << 10
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	tail, err := io.ReadAll(io.NewSectionReader(file, from, most+1))
	if err != nil || len(tail) > most || !bytes.HasSuffix(tail, []byte("\n")) {
		return false
	}
	for line := range bytes.Lines(tail) {
		if !bytes.HasPrefix(line, []byte("esky-wrap: ")) && !bytes.HasPrefix(line, []byte("slurmstepd")) {
			return false
		}
	}
	return true
}

// keepsTail says that a stream goes on at its end, not where it was.
func (f *files) keepsTail(o *imagepb.OpenFile) bool {
	return slices.ContainsFunc(f.longer, func(l *imagepb.OpenFile) bool { return l.Path == o.Path })
}

// written says whether the job had the file open for writing.
func (f *files) written(path string) bool {
	for _, o := range f.meta.OpenFiles {
		if o.Path == path && o.Flags&unix.O_ACCMODE != unix.O_RDONLY {
			return true
		}
	}
	return false
}

// cutBack shortens a file to its length at the checkpoint, and keeps the rest.
func (f *files) cutBack(path string, o *imagepb.OpenFile) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cut %s back: %w", o.Path, err)
	}
	defer file.Close()
	keep, err := f.keepTail(file, o)
	if err != nil {
		return fmt.Errorf("keep what is cut off %s: %w", o.Path, err)
	}
	if err := file.Truncate(int64(o.Size)); err != nil {
		return fmt.Errorf("cut %s back: %w", o.Path, err)
	}
	f.note("%s was cut back to the %d bytes it had at the checkpoint; the rest is in %s", o.Path, o.Size, keep)
	return nil
}

func (f *files) keepTail(file *os.File, o *imagepb.OpenFile) (string, error) {
	if _, err := file.Seek(int64(o.Size), io.SeekStart); err != nil {
		return "", err
	}
	if err := os.MkdirAll(f.saved, 0o700); err != nil {
		return "", err
	}
	pattern := fmt.Sprintf("%s.gen-%d.from-%d.*", filepath.Base(o.Path), f.meta.Generation, o.Size)
	keep, err := os.CreateTemp(f.saved, pattern)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(keep, file)
	return keep.Name(), errors.Join(err, keep.Sync(), keep.Close())
}

func streamPath(init int, o *imagepb.OpenFile) string {
	return fmt.Sprintf("/proc/%d/fd/%d", init, o.Stdio)
}

// sameStream says that a stream that the job is given now is the very file that
// it was given then. Another host may number the device otherwise.
func (f *files) sameStream(init int, o *imagepb.OpenFile) bool {
	var st unix.Stat_t
	path := streamPath(init, o)
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != o.Ino {
		return false
	}
	link, err := os.Readlink(path)
	return st.Dev == o.Dev || err == nil && link == o.Path
}
