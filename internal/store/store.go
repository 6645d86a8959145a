// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Store is the directory of one job.
type Store struct {
	dir string
	fs  fileSystem

	mu      sync.Mutex
	pending *Pending // the image this process writes, if any
}

// jobKey leaves out what is special to shells, paths and terminals. A leading
// dot is left to the store's own files.
var jobKey = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$`)

func checkJob(job string) error {
	if !jobKey.MatchString(job) {
		return fmt.Errorf("job name %.220q: use letters, digits, '.', '_' and '-', at most 200, no '.' in front", job)
	}
	return nil
}

// Open opens the directory of a job and creates it where it is missing. It
// refuses a directory that other users could have prepared.
func Open(dir, job string) (*Store, error) { return open(osFS{}, dir, job) }

func open(fsys fileSystem, dir, job string) (*Store, error) {
	s, err := newStore(fsys, dir, job)
	if err != nil {
		return nil, err
	}
	parent := filepath.Dir(s.dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, WriteError(parent, err)
	}
	if err := checkParent(parent); err != nil {
		return nil, err
	}
	err = s.fs.Mkdir(s.dir)
	if err == nil {
		err = s.fs.Sync(parent)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, WriteError(s.dir, err)
	}
	if err := checkPrivate(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Existing opens the directory of a job that has been here before; ErrNoJob
// says that none was.
func Existing(dir, job string) (*Store, error) {
	s, err := newStore(osFS{}, dir, job)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s in %s: %w", job, dir, ErrNoJob)
	}
	if err := checkParent(filepath.Dir(s.dir)); err != nil {
		return nil, err
	}
	if err := checkPrivate(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

func newStore(fsys fileSystem, dir, job string) (*Store, error) {
	if err := checkJob(job); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", dir, err)
	}
	return &Store{dir: filepath.Join(abs, job), fs: fsys}, nil
}

// List returns the jobs of a store in alphabetical order.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	var jobs []string
	for _, e := range entries {
		if e.IsDir() && checkJob(e.Name()) == nil {
			jobs = append(jobs, e.Name())
		}
	}
	return jobs, nil
}

// Dir returns the absolute path of the job's directory.
func (s *Store) Dir() string { return s.dir }

// SavedDir is the name of the directory beside the images of a job that Saved names.
const SavedDir = "saved"

// Saved returns the directory for what a rollback of files cut off. It is made
// by who needs it.
func (s *Store) Saved() string { return s.path(SavedDir) }

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// checkParent accepts a directory in which nobody else can exchange ours: one
// that only we or root can write, or one with the sticky bit, as /tmp.
func checkParent(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if fi.Mode()&fs.ModeSticky != 0 && ownedByUs(fi) {
		return nil
	}
	return checkMode(dir, fi)
}

// checkPrivate does not follow a symbolic link: in a directory with the sticky
// bit somebody else could have put it there.
func checkPrivate(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return checkMode(dir, fi)
}

func checkMode(dir string, fi fs.FileInfo) error {
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("store %s is a symbolic link: refused", dir)
	case !fi.IsDir():
		return fmt.Errorf("store %s: %w", dir, unix.ENOTDIR)
	case !ownedByUs(fi):
		return fmt.Errorf("store %s belongs to another user: refused", dir)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("store %s can be written by others (mode %#o): refused; chmod go-w it", dir, fi.Mode().Perm())
	}
	return nil
}

func ownedByUs(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == uint32(os.Geteuid()) || st.Uid == 0)
}
