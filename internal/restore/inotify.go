// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// setWatches lets the job's inotify instances watch again what they watched: when
// all files are as they were, so that what the resume does to them is no event.
func (r *restorer) setWatches() error {
	done := map[uint32]bool{}
	for _, p := range r.live() {
		for _, fd := range p.pb.Fds {
			f := r.meta.OpenFiles[fd.OpenFile]
			if f.Kind != imagepb.OpenFile_INOTIFY || done[fd.OpenFile] {
				continue
			}
			done[fd.OpenFile] = true
			if err := r.setWatchesOf(p, fd.Number, f.Inotify); err != nil {
				return fmt.Errorf("pid %d: descriptor %d (inotify): %w", p.pb.Pid, fd.Number, err)
			}
		}
	}
	return nil
}

func (r *restorer) setWatchesOf(p *proc, number int32, watches []*imagepb.InotifyWatch) error {
	if len(watches) == 0 {
		return nil
	}
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, int(number), 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	next := int32(1)
	for _, w := range watches {
		if err := skipWatches(fd, w.Wd-next); err != nil {
			return fmt.Errorf("come to watch %d: %w", w.Wd, err)
		}
		path := r.files.now(w.Path)
		// IN_UNMOUNT is always on; a mask must not be empty.
		got, err := unix.InotifyAddWatch(fd, path, w.Mask|unix.IN_UNMOUNT|unix.IN_DONT_FOLLOW|unix.IN_MASK_CREATE)
		if err != nil {
			return fmt.Errorf("watch %s again: %w", path, err)
		}
		if got != int(w.Wd) {
			return fmt.Errorf("watch %s again: it is watch %d, not %d", path, got, w.Wd)
		}
		next = w.Wd + 1
	}
	return nil
}

// skipWatches uses numbers up, which the kernel counts upwards, by watches of
// something of our own. Each of them ends with an event (IN_IGNORED), which nobody
// is to see.
func skipWatches(fd int, count int32) error {
	if count <= 0 {
		return nil
	}
	own, err := unix.MemfdCreate("watched", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	path := fmt.Sprintf("/proc/self/fd/%d", own)
	for i := range count {
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_ATTRIB)
		if err != nil {
			return err
		}
		if _, err := unix.InotifyRmWatch(fd, uint32(wd)); err != nil {
			return err
		}
		if i%1000 == 999 || i == count-1 {
			if err := drain(fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// drain reads all events that are there, and never waits for one.
func drain(fd int) error {
	for {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
		if err != nil || n == 0 {
			return err
		}
		if _, err := unix.Read(fd, make([]byte, n)); err != nil {
			return err
		}
	}
}
