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

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
)

// FilePolicy says what to do about files that have changed since the checkpoint.
type FilePolicy = jobfiles.Policy

// The policies of run's --files.
const (
	Rollback = jobfiles.Rollback
	Accept   = jobfiles.Accept
	Strict   = jobfiles.Strict
)

// ChangedError says that files are not what they were at the checkpoint.
type ChangedError = jobfiles.ChangedError

// files puts the job's files back to what they were at the checkpoint: those
// that it has opened itself by package jobfiles, and the streams that it was
// given, if they are the same ones again, here.
type files struct {
	policy  FilePolicy
	saved   string
	meta    *imagepb.Image
	open    func(name string) (io.ReadCloser, error)
	note    func(format string, args ...any)
	job     *jobfiles.Job
	reasons []string
	longer  []*imagepb.OpenFile // streams whose new lines stay
	cuts    []func() error
}

// check compares all files with what they were, and changes none.
func (f *files) check(init int) error {
	streams := map[string]bool{}
	for _, o := range f.meta.OpenFiles {
		if o.Kind != imagepb.OpenFile_STDIO || o.Path == "" || streams[o.Path] || !f.sameStream(init, o) {
			continue
		}
		streams[o.Path] = true
		f.compare(o, streamPath(init, o))
	}
	host, _ := os.Hostname()
	f.job = jobfiles.New(jobfiles.Options{
		Policy: f.policy, Files: f.records(streams), Scratch: f.meta.Scratch,
		SameHost: f.meta.Host == nil || f.meta.Host.Hostname == host, Generation: f.meta.Generation,
		Open: f.open, Saved: f.saved, Note: f.note,
	})
	var changed *ChangedError
	if err := f.job.Check(); errors.As(err, &changed) {
		f.reasons = append(f.reasons, changed.Reasons...)
	} else if err != nil {
		return err
	}
	f.checkLocks()
	if len(f.reasons) > 0 {
		return &ChangedError{Reasons: f.reasons}
	}
	return nil
}

// records are those of the image, but for the streams. An image of an earlier
// version has only what it says of open files.
func (f *files) records(streams map[string]bool) []*imagepb.JobFile {
	all := f.meta.JobFiles
	if len(all) == 0 {
		done := map[string]bool{}
		for _, o := range f.meta.OpenFiles {
			if o.Kind == imagepb.OpenFile_REGULAR && o.Path != "" && !done[o.Path] {
				done[o.Path] = true
				all = append(all, &imagepb.JobFile{Path: o.Path, Size: o.Size, MtimeNs: o.MtimeNs, Written: f.written(o.Path)})
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(r *imagepb.JobFile) bool { return streams[r.Path] })
}

// putBack cuts back what has to be.
func (f *files) putBack() error {
	for _, cut := range f.cuts {
		if err := cut(); err != nil {
			return err
		}
	}
	return f.job.PutBack()
}

// discard takes back what was made for a resume that has failed.
func (f *files) discard() {
	if f.job != nil {
		f.job.Discard()
	}
}

// now says where a file is, until it is put back to its place.
func (f *files) now(path string) string {
	if f.job == nil {
		return path
	}
	return f.job.Now(path)
}

func (f *files) refuse(format string, args ...any) {
	f.reasons = append(f.reasons, fmt.Sprintf(format, args...))
}

// compare compares a stream with what it was, and decides what is to be done.
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
	case written && size > o.Size && onlyMessages(path, int64(o.Size)):
		f.longer = append(f.longer, o)
	case written && size > o.Size && unix.Access(path, unix.R_OK|unix.W_OK) != nil:
		f.longer = append(f.longer, o)
		f.note("%s has grown by %d bytes since the checkpoint, and only its owner may cut them off: they stay", o.Path, size-o.Size)
	case written && size > o.Size && f.policy != Strict:
		f.cuts = append(f.cuts, func() error { return f.cutBack(path, o) })
	case f.policy == Accept:
		f.note("%s has changed since the checkpoint and is taken as it is", o.Path)
	case written && size == o.Size && f.policy == Rollback:
		f.note("%s was written to since the checkpoint; its length is the same, so it is taken as it is", o.Path)
	case written && size < o.Size:
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
