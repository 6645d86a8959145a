// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock takes the lock of the job without waiting; ErrLocked says that
// another incarnation has it. The lock lasts until every copy of the file that
// was handed to a child is closed (flock(2)): handed to the job itself, it
// outlives the process that took it.
func (s *Store) TryLock() (*os.File, error) { return tryLock(s.path("lock")) }

// TryLockKeys is TryLock for the choice among this job's name and those that are
// made of it.
func (s *Store) TryLockKeys() (*os.File, error) { return tryLock(s.path("keys.lock")) }

func tryLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, WriteError(path, err)
		}
		ok, err := lockFile(f)
		if ok {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// lockFile is not ok, without an error, for a file that was removed between
// open and flock: its lock would exclude nobody.
func lockFile(f *os.File) (ok bool, err error) {
	if err := flock(f); err != nil {
		return false, err
	}
	return isAt(f, f.Name()), nil
}

func flock(f *os.File) error {
	for {
		// NFS turns an exclusive flock into a POSIX lock on the server, for
		// which the file must be open for writing (flock(2)).
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOLCK):
			return fmt.Errorf("lock %s: the file system has no locks (Lustre: mount with -o flock): %w", f.Name(), err)
		}
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}

func isAt(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Lstat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
