// SPDX-License-Identifier: Apache-2.0

package jobfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Stage makes what is missing: directories, and files under temporary names.
func (j *Job) Stage() error {
	for _, s := range j.steps {
		var err error
		switch {
		case s.f.Type == imagepb.JobFile_DIRECTORY:
			err = j.makeDir(s.f.Path)
		case s.f.Type == imagepb.JobFile_FIFO:
			err = j.makeFIFO(s.f)
		case s.staged:
			err = j.stage(s)
		}
		if err != nil {
			return fmt.Errorf("put back %s: %w", s.f.Path, err)
		}
	}
	return nil
}

// Now says where a file is that will be at path after PutBack.
func (j *Job) Now(path string) string {
	for _, s := range j.steps {
		switch {
		case s.f.Path != path:
		case s.temp != "":
			return s.temp
		case s.from != "":
			return s.from
		}
	}
	return path
}

// makeDir makes a directory and those above it. They get their modes and
// times when all is in there.
func (j *Job) makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := j.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	j.made = append(j.made, path)
	return nil
}

func (j *Job) makeFIFO(f *imagepb.JobFile) error {
	if err := j.makeDir(filepath.Dir(f.Path)); err != nil {
		return err
	}
	j.made = append(j.made, f.Path)
	return unix.Mkfifo(f.Path, 0o600)
}

// stage writes the content of a file beside its place.
func (j *Job) stage(s *step) error {
	dir := filepath.Dir(s.f.Path)
	if err := j.makeDir(dir); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".esky-*")
	if err != nil {
		return err
	}
	s.temp = file.Name()
	return errors.Join(j.fill(file, s.f), file.Close())
}

// fill writes the copy into a file. All of the copy is checked by that.
func (j *Job) fill(file *os.File, f *imagepb.JobFile) error {
	copied, err := j.o.Open(f.Copy)
	if err != nil {
		return err
	}
	defer copied.Close()
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := writeSparse(file, copied); err != nil {
		return err
	}
	return file.Truncate(int64(f.Size))
}

// writeSparse copies from the start of a file, and leaves out what is zero.
func writeSparse(to *os.File, from io.Reader) (n int64, err error) {
	b := make([]byte, pieceSize)
	for {
		got, err := io.ReadFull(from, b)
		if !isZero(b[:got]) {
			if _, err := to.WriteAt(b[:got], n); err != nil {
				return n, err
			}
		}
		n += int64(got)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// PutBack does what Check has planned.
func (j *Job) PutBack() error {
	for _, s := range j.steps {
		if err := s.do(s); err != nil {
			return fmt.Errorf("put back %s: %w", s.f.Path, err)
		}
	}
	for _, s := range j.steps {
		if s.f.Type == imagepb.JobFile_DIRECTORY {
			if err := errors.Join(unix.Chmod(s.f.Path, s.f.Mode), setTimes(s.f.Path, s.f)); err != nil {
				return fmt.Errorf("put back %s: %w", s.f.Path, err)
			}
		}
	}
	j.steps, j.made = nil, nil
	return nil
}

// Discard removes what Stage has made, when there will be no PutBack.
func (j *Job) Discard() {
	for _, s := range j.steps {
		if s.temp != "" {
			_ = os.Remove(s.temp)
		}
	}
	for i := len(j.made) - 1; i >= 0; i-- {
		_ = os.Remove(j.made[i]) // only if it is empty
	}
	j.steps, j.made = nil, nil
}

// cut shortens a file that has grown.
func (j *Job) cut(s *step) error {
	file, err := os.OpenFile(j.Now(s.f.Path), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	keep, err := j.keep(file, s.f, int64(s.f.Size))
	if err != nil {
		return fmt.Errorf("keep what is cut off: %w", err)
	}
	if err := file.Truncate(int64(s.f.Size)); err != nil {
		return err
	}
	j.o.Note("%s was cut back to the %d bytes it had at the checkpoint; the rest is in %s", s.f.Path, s.f.Size, keep)
	return setTimes(file.Name(), s.f)
}

// rewrite gives a file the content that it had.
func (j *Job) rewrite(s *step) error {
	file, err := os.OpenFile(s.f.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	keep, err := j.keep(file, s.f, 0)
	if err != nil {
		return fmt.Errorf("keep what is replaced: %w", err)
	}
	if err := j.fill(file, s.f); err != nil {
		return err
	}
	j.o.Note("%s has the content again that it had at the checkpoint; what was in it is in %s", s.f.Path, keep)
	return setTimes(s.f.Path, s.f)
}

// place moves a staged file to its place. What has come there meanwhile, or was
// there all the time, is kept: an inode that is not the job's is never written to.
func (j *Job) place(s *step) error {
	keep, err := j.clear(s.f)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Chmod(s.temp, s.f.Mode), setTimes(s.temp, s.f)); err != nil {
		return err
	}
	if err := os.Rename(s.temp, s.f.Path); err != nil {
		return err
	}
	s.temp = ""
	j.notePlaced(s.f, keep)
	return nil
}

func (j *Job) notePlaced(f *imagepb.JobFile, keep string) {
	switch {
	case keep != "":
		j.o.Note("%s was put back; another file was there, which is in %s now", f.Path, keep)
	case !f.Local: // what another host, or a new scratch directory, lacks is expected
		j.o.Note("%s was put back; it was gone", f.Path)
	}
}

// clear keeps what is at the place of a file.
func (j *Job) clear(f *imagepb.JobFile) (keep string, err error) {
	file, err := Open(f.Path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	return j.keep(file, f, 0)
}

func (j *Job) renameBack(s *step) error {
	keep, err := j.clear(s.f)
	if err != nil {
		return err
	}
	if err := os.Rename(s.from, s.f.Path); err != nil {
		return err
	}
	j.o.Note("%s has its name back; it was called %s", s.f.Path, s.from)
	s.from = ""
	j.notePlaced(s.f, keep)
	st, err := os.Stat(s.f.Path)
	if err != nil || st.Size() == int64(s.f.Size) {
		return err
	}
	return j.cut(s)
}

// moveAway keeps a file that the job has made since.
func (j *Job) moveAway(s *step) error {
	keep, err := j.clear(s.f)
	if err != nil || keep == "" {
		return err
	}
	j.o.Note("%s was made since the checkpoint; it is in %s now", s.f.Path, keep)
	return os.Remove(s.f.Path)
}

// makeSpecial makes what is no regular file. Stage has made directories and FIFOs.
func (j *Job) makeSpecial(s *step) error {
	switch s.f.Type {
	case imagepb.JobFile_SYMLINK:
		return j.placeLink(s)
	case imagepb.JobFile_FIFO:
		return unix.Chmod(s.f.Path, s.f.Mode)
	}
	return nil
}

func (j *Job) placeLink(s *step) error {
	if old, err := os.Readlink(s.f.Path); err == nil {
		j.o.Note("%s led to %s since the checkpoint; now to %s again", s.f.Path, old, s.f.Target)
		if err := os.Remove(s.f.Path); err != nil {
			return err
		}
	}
	return os.Symlink(s.f.Target, s.f.Path)
}

// keep copies a file, from some place on, to where the user finds it.
func (j *Job) keep(file *os.File, f *imagepb.JobFile, from int64) (string, error) {
	if err := os.MkdirAll(j.o.Saved, 0o700); err != nil {
		return "", err
	}
	what := "replaced"
	if from > 0 {
		what = fmt.Sprintf("from-%d", from)
	}
	keep, err := os.CreateTemp(j.o.Saved, fmt.Sprintf("%s.gen-%d.%s.*", short(filepath.Base(f.Path)), j.o.Generation, what))
	if err != nil {
		return "", err
	}
	st, err := file.Stat()
	if err != nil {
		return "", err
	}
	_, err = writeSparse(keep, io.NewSectionReader(file, from, max(st.Size()-from, 0)))
	return keep.Name(), errors.Join(err, keep.Truncate(max(st.Size()-from, 0)), keep.Sync(), keep.Close())
}

// short leaves room for the rest of a name (NAME_MAX).
func short(name string) string {
	const most = 180
	if len(name) > most {
		return name[:most]
	}
	return name
}

func setTimes(path string, f *imagepb.JobFile) error {
	err := os.Chtimes(path, time.Time{}, time.Unix(0, f.MtimeNs))
	if errors.Is(err, unix.EPERM) {
		return nil // only its owner may
	}
	return err
}
