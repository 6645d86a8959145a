// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func mustLock(t *testing.T, s *Store) *os.File {
	t.Helper()
	f, err := s.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLockIsForOne(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	f := mustLock(t, s)
	if _, err := mustOpen(t, dir).TryLock(); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	f.Close()
	mustLock(t, s)
}

func TestManyWantTheLock(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			f, err := s.TryLock()
			switch {
			case err == nil:
				won.Add(1)
				t.Cleanup(func() { f.Close() })
			case !errors.Is(err, ErrLocked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have the lock", won.Load())
	}
}

// TestLockOutlivesItsTaker hands the lock to a child and lets go of it.
func TestLockOutlivesItsTaker(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	f := mustLock(t, s)
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
	child := exec.Command("cat") // ends when its input does
	child.ExtraFiles = []*os.File{f}
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := s.TryLock(); !errors.Is(err, ErrLocked) {
		t.Errorf("while the child lives: %v", err)
	}
	input.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	mustLock(t, s)
}

func TestLockFileRemoved(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	mustLock(t, s)
	if err := os.Remove(s.path("lock")); err != nil {
		t.Fatal(err)
	}
	f := mustLock(t, s)
	if !isAt(f, s.path("lock")) {
		t.Error("the lock is not on the file that others will find")
	}
	f.Close()
	if f = mustLock(t, s); os.Remove(f.Name()) != nil {
		t.Fatal("cannot remove the lock")
	}
	if ok, err := lockFile(f); ok || err != nil {
		t.Errorf("a file that is gone: locked %v, %v", ok, err)
	}
}
