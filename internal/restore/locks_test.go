// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// TestLockTaken: a lock that somebody else has taken since stops the resume before
// anything is touched; one that leaves room for the job's does not.
func TestLockTaken(t *testing.T) {
	whole := int64(math.MaxInt64)
	for _, c := range []struct {
		name   string
		lock   *imagepb.FileLock
		take   func(fd int) error
		refuse bool
	}{
		{"flock", &imagepb.FileLock{Kind: imagepb.FileLock_FLOCK, Exclusive: true, End: whole}, func(fd int) error { return unix.Flock(fd, unix.LOCK_SH) }, true},
		{"flock shared", &imagepb.FileLock{Kind: imagepb.FileLock_FLOCK, End: whole}, func(fd int) error { return unix.Flock(fd, unix.LOCK_SH) }, false},
		{"ofd", &imagepb.FileLock{Kind: imagepb.FileLock_OFD, Exclusive: true, Start: 5, End: 9}, ofdLock(unix.F_RDLCK, 9, 1), true},
		{"ofd elsewhere", &imagepb.FileLock{Kind: imagepb.FileLock_OFD, Exclusive: true, Start: 5, End: 9}, ofdLock(unix.F_WRLCK, 10, 1), false},
		{"posix", &imagepb.FileLock{Kind: imagepb.FileLock_POSIX, Start: 5, End: whole}, ofdLock(unix.F_WRLCK, 100, 1), true},
		{"posix shared", &imagepb.FileLock{Kind: imagepb.FileLock_POSIX, Start: 5, End: whole}, ofdLock(unix.F_RDLCK, 0, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			other, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if err := c.take(int(other.Fd())); err != nil {
				t.Fatal(err)
			}
			var said []string
			f := &files{policy: Accept, saved: t.TempDir(), meta: &imagepb.Image{OpenFiles: []*imagepb.OpenFile{
				{Kind: imagepb.OpenFile_REGULAR, Path: path, Flags: unix.O_RDWR, Locks: []*imagepb.FileLock{c.lock}},
			}}, note: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
			err = f.check(os.Getpid())
			if (err != nil) != c.refuse || err != nil && !strings.Contains(err.Error(), path+", on which the job had a lock, is locked by") {
				t.Errorf("error %v; said %q", err, said)
			}
		})
	}
}

func ofdLock(kind int16, start, length int64) func(int) error {
	return func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
	}
}
