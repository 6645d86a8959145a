// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// describeAnon deals with the files of fs/anon_inodes.c.
func (d *Dump) describeAnon(f *file) error {
	i := &f.info
	switch {
	case i.Eventfd:
		f.pb.Kind, f.pb.EventfdCount, f.pb.EventfdSemaphore = imagepb.OpenFile_EVENTFD, i.EventfdCount, i.EventfdSemaphore
	case i.Timerfd != nil:
		if err := f.countTicks(); err != nil {
			return err
		}
		f.pb.Kind = imagepb.OpenFile_TIMERFD
		value, ticks := ticksThen(d.leftThen(i.Timerfd.ValueNs), i.Timerfd.IntervalNs, i.Timerfd.Ticks)
		f.pb.Timerfd = &imagepb.Timerfd{
			Clockid: int32(i.Timerfd.Clockid), Ticks: ticks, SettimeFlags: int32(i.Timerfd.SettimeFlags),
			ValueNs: value, IntervalNs: i.Timerfd.IntervalNs,
		}
	case i.Signalfd:
		f.pb.Kind, f.pb.SignalfdMask = imagepb.OpenFile_SIGNALFD, i.Sigmask
	case f.link == inotifyLink:
		d.describeInotify(f)
	default:
		return d.describeEpoll(f)
	}
	return nil
}

// countTicks reads a timerfd's state anew after timerfd_gettime(2). A periodic
// timer whose ticks nobody reads stands still in the kernel, its later ticks
// uncounted and its next one unknown, until somebody asks: it may do so again
// between our two looks.
func (f *file) countTicks() error {
	fd, err := f.borrow()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var t unix.ItimerSpec
	for range 10 {
		if err := unix.TimerfdGettime(fd, &t); err != nil {
			return fmt.Errorf("timerfd_gettime: %w", err)
		}
		if err := f.read(); err != nil {
			return err
		}
		periodic := t.Value.Nano() != 0 && t.Interval.Nano() != 0
		if !periodic || f.info.Timerfd.ValueNs != 0 {
			return nil
		}
	}
	f.info.Timerfd.ValueNs = t.Interval.Nano() // it ticks faster than we look
	return nil
}

// ticksThen takes those ticks back that have come since the clocks were read. A timer
// that has ticked never has more left than its interval.
func ticksThen(left, interval int64, ticks uint64) (int64, uint64) {
	if left == 0 || interval == 0 {
		return left, ticks
	}
	late := min((left-1)/interval, int64(ticks))
	return left - late*interval, ticks - uint64(late)
}

// describeEpoll finds, for each item of the interest list, the description that
// it watches: by number, in the process through which we see the epoll.
func (d *Dump) describeEpoll(f *file) error {
	f.pb.Kind, f.pb.EpollPid = imagepb.OpenFile_EPOLL, int32(f.pid)
	for _, item := range f.info.Epoll {
		target := d.files.at(f.pid, item.TFD)
		if target == nil || target.st.Ino != item.Ino {
			d.files.refused = append(d.files.refused, fmt.Sprintf(
				"%s: it watches a file that was descriptor %d and is that no more", f, item.TFD))
			continue
		}
		f.pb.Epoll = append(f.pb.Epoll, &imagepb.EpollItem{
			Fd: int32(item.TFD), Events: item.Events, Data: item.Data, OpenFile: target.index,
		})
	}
	return nil
}

// pidfdLink is what the link of a pidfd says, whatever file system it is on.
const pidfdLink = "anon_inode:[pidfd]"

// describePidfd notes the process that a pidfd is of. One that is open in
// several processes comes back as one of each, which only fcntl(2) could tell.
func (d *Dump) describePidfd(f *file) {
	f.pb.Kind = imagepb.OpenFile_PIDFD
	if f.info.Pid < 0 {
		f.pb.PidfdPid = -1
		return
	}
	for _, p := range d.frozen.Processes {
		if p.HostPid == f.info.Pid {
			f.pb.PidfdPid = int32(p.Pid)
			return
		}
	}
	d.files.refused = append(d.files.refused, fmt.Sprintf("%s: its process is not of this job", f))
}
