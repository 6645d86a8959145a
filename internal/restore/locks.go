// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// lock takes a file lock again (flock(2), F_SETLK and F_OFD_SETLK of fcntl(2)).
func lock(s *script, fd int32, f *imagepb.OpenFile, l *imagepb.FileLock) {
	name := "lock " + f.Path
	switch l.Kind {
	case imagepb.FileLock_LEASE: // see setLeases
	case imagepb.FileLock_FLOCK:
		s.add(name, unix.SYS_FLOCK, uint64(fd), uint64(flockKind(l))|unix.LOCK_NB)
	default:
		cmd, w := uint64(unix.F_SETLK), flockOf(l)
		if l.Kind == imagepb.FileLock_OFD {
			cmd = unix.F_OFD_SETLK
		}
		// struct flock: short type, short whence, off_t start, len, pid_t pid
		s.add(name, unix.SYS_FCNTL, uint64(fd), cmd, s.words(uint64(w.Type), uint64(w.Start), uint64(w.Len), 0))
	}
}

func flockKind(l *imagepb.FileLock) int {
	if l.Exclusive {
		return unix.LOCK_EX
	}
	return unix.LOCK_SH
}

func flockOf(l *imagepb.FileLock) unix.Flock_t {
	w := unix.Flock_t{Type: unix.F_RDLCK, Start: l.Start} // to the end of the file, wherever that is
	if l.Exclusive {
		w.Type = unix.F_WRLCK
	}
	if l.End >= 0 && l.End < math.MaxInt64 {
		w.Len = l.End - l.Start + 1
	}
	return w
}

// checkLocks looks for locks that others have taken since. Whoever holds one
// believes that it has the file for itself, as the job did.
func (f *files) checkLocks() {
	for _, o := range f.meta.OpenFiles {
		if len(o.Locks) == 0 || o.Path == "" || o.Kind != imagepb.OpenFile_REGULAR {
			continue
		}
		fd, err := unix.Open(o.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // whether that matters is asked elsewhere
		}
		for _, l := range o.Locks {
			if by, taken := takenBy(fd, l); taken {
				f.refuse("%s, on which the job had a lock, is locked by %s now", o.Path, by)
				break
			}
		}
		unix.Close(fd)
	}
}

func takenBy(fd int, l *imagepb.FileLock) (by string, taken bool) {
	switch l.Kind {
	case imagepb.FileLock_FLOCK: // the end of the test lets go again
		err := unix.Flock(fd, flockKind(l)|unix.LOCK_NB)
		return "another process (flock)", errors.Is(err, unix.EWOULDBLOCK)
	case imagepb.FileLock_LEASE:
		return "", false
	}
	w := flockOf(l)
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &w); err != nil || w.Type == unix.F_UNLCK {
		return "", false
	}
	if w.Pid > 0 {
		return fmt.Sprintf("process %d", w.Pid), true
	}
	return "another process", true
}

// setLeases takes leases again: after everything else, as each open of the file,
// be it by the process that puts it back, would break them.
func (r *restorer) setLeases() error {
	for _, p := range r.live() {
		s := p.script()
		for _, fd := range p.pb.Fds {
			f := r.meta.OpenFiles[fd.OpenFile]
			for _, l := range f.Locks {
				if l.Kind != imagepb.FileLock_LEASE || l.Pid != p.pb.Pid || l.Fd != fd.Number {
					continue
				}
				kind := uint64(unix.F_RDLCK)
				if l.Exclusive {
					kind = unix.F_WRLCK
				}
				s.add("lease on "+f.Path, unix.SYS_FCNTL, uint64(fd.Number), unix.F_SETLEASE, kind)
				setOwner(s, fd.Number, f) // a lease makes its taker the owner
			}
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("pid %d: %w (does another process have the file open?)", p.pb.Pid, err)
		}
	}
	return nil
}

// setOwner sets whom the kernel signals, and how: F_SETOWN_EX and F_SETSIG of
// fcntl(2). O_ASYNC comes last; the number by which it is set is the one that the
// signal tells.
func setOwner(s *script, fd int32, f *imagepb.OpenFile) {
	if f.OwnerPid != 0 {
		owner := s.words(uint64(f.OwnerKind) | real(int(f.OwnerPid))<<32)
		s.add("owner", unix.SYS_FCNTL, uint64(fd), unix.F_SETOWN_EX, owner)
	}
	if f.OwnerSig != 0 {
		s.add("signal", unix.SYS_FCNTL, uint64(fd), unix.F_SETSIG, uint64(f.OwnerSig))
	}
	if f.Flags&unix.O_ASYNC != 0 {
		s.add("asynchronous", unix.SYS_FCNTL, uint64(fd), unix.F_SETFL, uint64(f.Flags)&^creation&^unix.O_ACCMODE|unix.O_ASYNC)
	}
}
