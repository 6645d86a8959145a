// SPDX-License-Identifier: Apache-2.0

package jobfiles

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Options of a rollback.
type Options struct {
	Policy     Policy
	Files      []*imagepb.JobFile
	Scratch    []string // of the image: all that is in there was the job's
	SameHost   bool     // this is the host of the checkpoint
	Generation uint32
	Open       func(name string) (io.ReadCloser, error) // a copy, of the image
	Saved      string                                   // directory for what is cut off or replaced
	Note       func(format string, args ...any)
}

// Job puts back the files of one job.
type Job struct {
	o       Options
	reasons []string
	steps   []*step
	made    []string // directories, in the order of their making
}

// step is one thing to be done about one file.
type step struct {
	f    *imagepb.JobFile
	do   func(*step) error
	from string // of a file with another name: where it is now

	staged bool   // Stage makes a new file
	temp   string // it, until it is in its place
}

// New is a rollback that has not looked at anything yet.
func New(o Options) *Job { return &Job{o: o} }

// Check compares all files with their records, and changes none. The error is a
// *ChangedError, or what is wrong with a copy.
func (j *Job) Check() error {
	for _, f := range j.o.Files {
		if err := j.check(f); err != nil {
			return err
		}
	}
	if err := j.findStrangers(); err != nil {
		return err
	}
	if len(j.reasons) > 0 {
		return &ChangedError{j.reasons}
	}
	return nil
}

func (j *Job) refuse(format string, args ...any) {
	j.reasons = append(j.reasons, fmt.Sprintf(format, args...))
}

func (j *Job) plan(f *imagepb.JobFile, do func(*step) error) *step {
	s := &step{f: f, do: do}
	j.steps = append(j.steps, s)
	return s
}

func (j *Job) check(f *imagepb.JobFile) error {
	st, err := Stat(f.Path, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return j.missing(f)
	case err != nil:
		j.refuse("%s, which the job has open, cannot be looked at: %v", f.Path, err)
		return nil
	case f.Type != imagepb.JobFile_REGULAR:
		j.checkSpecial(f, &st)
		return nil
	case uint32(st.Mode)&unix.S_IFMT != unix.S_IFREG:
		j.refuse("%s is no regular file any more", f.Path)
		return nil
	case j.isSame(f, &st):
		return j.own(f, &st)
	}
	return j.another(f, &st)
}

// isSame says whether a file is the very inode of the record. A device has other
// numbers on other hosts; when the inode was made tells it from one that has got
// the number later.
func (j *Job) isSame(f *imagepb.JobFile, st *unix.Statx_t) bool {
	var now imagepb.JobFile
	Describe(&now, st)
	if f.Ino == 0 {
		return true // an image that does not know
	}
	if now.BtimeNs != 0 && f.BtimeNs != 0 {
		return now.Ino == f.Ino && now.BtimeNs == f.BtimeNs
	}
	return now.Ino == f.Ino && (j.o.SameHost || !f.Local)
}

// own deals with a file that is the one it was.
func (j *Job) own(f *imagepb.JobFile, st *unix.Statx_t) error {
	untouched := st.Size == f.Size && nano(st.Mtime) == f.MtimeNs
	if untouched && !f.Mapped && (f.CtimeNs == 0 || nano(st.Ctime) == f.CtimeNs || f.Copy == "") {
		return nil
	}
	if f.Copy == "" {
		if !untouched {
			j.ownWithoutCopy(f, st)
		}
		return nil
	}
	how, err := j.compare(f)
	if err != nil {
		return err
	}
	switch {
	case how == equal:
	case j.o.Policy == Strict:
		j.refuseChanged(f, st.Size)
	case !f.Written && j.o.Policy == Accept:
		j.o.Note("%s has changed since the checkpoint and is taken as it is", f.Path)
	case !f.Written:
		j.refuseOthers(f, st.Size)
	case how == longer:
		j.plan(f, j.cut)
	default:
		j.plan(f, j.rewrite)
	}
	return nil
}

func (j *Job) ownWithoutCopy(f *imagepb.JobFile, st *unix.Statx_t) {
	switch {
	case j.o.Policy == Strict:
		j.refuseChanged(f, st.Size)
	case f.Written && st.Size > f.Size:
		j.plan(f, j.cut)
	case j.o.Policy == Accept:
		j.o.Note("%s has changed since the checkpoint and is taken as it is", f.Path)
	case f.Written && st.Size == f.Size:
		j.o.Note("%s was written to since the checkpoint; its length is the same and the image has no copy%s, so it is taken as it is", f.Path, because(f))
	default:
		j.refuseOthers(f, st.Size)
	}
}

func (j *Job) refuseChanged(f *imagepb.JobFile, size uint64) {
	j.refuse("%s has changed since the checkpoint: it had %d bytes and has %d", f.Path, f.Size, size)
}

func (j *Job) refuseOthers(f *imagepb.JobFile, size uint64) {
	j.refuse("%s has changed since the checkpoint: it had %d bytes and has %d (--files=accept takes it as it is)", f.Path, f.Size, size)
}

func because(f *imagepb.JobFile) string {
	if f.NoCopy == "" {
		return ""
	}
	return " (" + f.NoCopy + ")"
}

// another deals with a file that has taken the place of the one that was there.
func (j *Job) another(f *imagepb.JobFile, st *unix.Statx_t) error {
	if f.Copy == "" {
		return j.anotherWithoutCopy(f, st)
	}
	how, err := j.compare(f)
	if err != nil || how == equal {
		return err
	}
	elsewhere := f.Local && !j.o.SameHost // nobody can expect the job's file here
	switch {
	case j.o.Policy == Strict && !elsewhere:
		j.refuse("%s was replaced by another file since the checkpoint", f.Path)
	case f.Written || elsewhere:
		if int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
			j.refuse("%s is a file of another user (uid %d) now", f.Path, st.Uid)
			return nil
		}
		j.plan(f, j.place).staged = true
	case j.o.Policy == Accept:
		j.o.Note("%s was replaced since the checkpoint and is taken as it is", f.Path)
	default:
		j.refuse("%s, which the job only reads, was replaced by another file since the checkpoint (--files=accept takes it as it is)", f.Path)
	}
	return nil
}

func (j *Job) anotherWithoutCopy(f *imagepb.JobFile, st *unix.Statx_t) error {
	if st.Size == f.Size && nano(st.Mtime) == f.MtimeNs {
		return nil // the same file, moved or copied there with its times
	}
	if j.o.Policy != Strict && f.Written && j.findRenamed(f) {
		return nil
	}
	if j.o.Policy == Accept {
		j.o.Note("%s was replaced since the checkpoint and is taken as it is", f.Path)
		return nil
	}
	j.refuse("%s was replaced by another file since the checkpoint, and the image has no copy of the old one%s", f.Path, because(f))
	return nil
}

// missing deals with a file that is not there.
func (j *Job) missing(f *imagepb.JobFile) error {
	expected := f.Local && !j.o.SameHost
	switch {
	case j.o.Policy == Strict && !expected:
		j.refuse("%s is not there any more", f.Path)
	case f.Type != imagepb.JobFile_REGULAR:
		j.plan(f, j.makeSpecial)
	case f.Copy != "":
		j.plan(f, j.place).staged = true
	case j.findRenamed(f):
	default:
		j.refuse("%s, which the job has open, is not there, and the image has no copy of it%s", f.Path, because(f))
	}
	return nil
}

// findRenamed looks for the file under another name in its directory, and plans
// to give it the old one back.
func (j *Job) findRenamed(f *imagepb.JobFile) bool {
	if f.Ino == 0 || f.Type != imagepb.JobFile_REGULAR {
		return false
	}
	dir := filepath.Dir(f.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		st, err := Stat(path, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && j.isSame(f, &st) && st.Size >= f.Size {
			j.plan(f, j.renameBack).from = path
			return true
		}
	}
	return false
}

func (j *Job) checkSpecial(f *imagepb.JobFile, st *unix.Statx_t) {
	kinds := map[imagepb.JobFile_Type]uint32{
		imagepb.JobFile_DIRECTORY: unix.S_IFDIR, imagepb.JobFile_SYMLINK: unix.S_IFLNK, imagepb.JobFile_FIFO: unix.S_IFIFO,
	}
	if uint32(st.Mode)&unix.S_IFMT != kinds[f.Type] {
		j.refuse("%s is another kind of file than at the checkpoint", f.Path)
		return
	}
	if target, err := os.Readlink(f.Path); err == nil && target != f.Target {
		if j.o.Policy == Strict {
			j.refuse("%s leads to %s, not to %s any more", f.Path, target, f.Target)
			return
		}
		j.plan(f, j.placeLink)
	}
}
