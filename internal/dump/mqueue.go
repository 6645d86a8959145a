// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/agent"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// collectPosixQueues describes the queues that have a name.
func (d *Dump) collectPosixQueues() error {
	a := d.agent
	fs := tracee.Sys("fsopen mqueue", unix.SYS_FSOPEN, a.String("mqueue"), 0)
	if err := a.Do(fs); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil // a kernel without them
		}
		return err
	}
	const fsconfigCmdCreate = 6
	create := tracee.Sys("fsconfig", unix.SYS_FSCONFIG, uint64(fs.Result), fsconfigCmdCreate, 0, 0, 0)
	mount := tracee.Sys("mount mqueue", unix.SYS_FSMOUNT, uint64(fs.Result), 0, 0)
	if err := a.Do(create, mount); err != nil {
		return err
	}
	dir := tracee.Sys("open the queues", unix.SYS_OPENAT, uint64(mount.Result), a.String("."), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err := a.Do(dir); err != nil {
		return err
	}
	defer func() {
		_ = a.Do(tracee.Sys("close_range", unix.SYS_CLOSE_RANGE, agent.FirstFD, uint64(^uint32(0)), 0))
	}()
	names, err := listQueues(a, int(dir.Result))
	if err != nil {
		return fmt.Errorf("list the message queues: %w", err)
	}
	for _, name := range names {
		a.Reset()
		open := tracee.Sys("open", unix.SYS_OPENAT, uint64(dir.Result), a.String(name), unix.O_RDWR|unix.O_NONBLOCK, 0)
		if err := a.Do(open); err != nil {
			return fmt.Errorf("message queue /%s: %w", name, err)
		}
		fd, err := a.Borrow(int(open.Result))
		if err != nil {
			return fmt.Errorf("message queue /%s: %w", name, err)
		}
		_, err = d.posixQueue(fd, name)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("message queue /%s: %w", name, err)
		}
	}
	return nil
}

func listQueues(a *agent.Agent, dir int) ([]string, error) {
	fd, err := a.Borrow(dir)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "mqueue")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// posixQueue describes a queue through a descriptor that may read and write.
func (d *Dump) posixQueue(fd int, name string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if why := queueNotify(fd); why != "" {
		return 0, &RefusedError{Reasons: []string{fmt.Sprintf("message queue /%s: %s", name, why)}}
	}
	attr, err := mqGetattr(fd)
	if err != nil {
		return 0, fmt.Errorf("mq_getattr: %w", err)
	}
	q := &imagepb.PosixQueue{Name: name, Mode: st.Mode & 0o7777, MaxMessages: attr.MaxMsg, MaxSize: attr.MsgSize}
	if err := d.copyMessages(fd, q, int(attr.CurMsgs)); err != nil {
		return 0, err
	}
	d.meta.PosixQueues = append(d.meta.PosixQueues, q)
	d.queueInos = append(d.queueInos, st.Ino)
	return uint32(len(d.meta.PosixQueues) - 1), nil
}

// queueNotify says who has asked to be told of the next message (mq_notify(3)):
// the kernel tells the signal, and not the value that goes with it.
func queueNotify(fd int) string {
	b := make([]byte, 256)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return err.Error()
	}
	_, pid, _ := strings.Cut(string(b[:n]), "NOTIFY_PID:")
	if strings.TrimSpace(pid) == "0" {
		return ""
	}
	return fmt.Sprintf("process %s waits to be notified of a message (mq_notify), which cannot be carried", strings.TrimSpace(pid))
}

// copyMessages takes the messages out and puts them back in the same order, as
// nothing but receiving tells them. All of the job stands still, and it does not
// outlive us here, so nobody finds the queue empty.
func (d *Dump) copyMessages(fd int, q *imagepb.PosixQueue, n int) error {
	buf := make([]byte, q.MaxSize)
	var err error
	for len(q.Messages) < n && err == nil {
		got, priority, e := mqReceive(fd, buf)
		switch {
		case e == nil:
			q.Messages = append(q.Messages, &imagepb.PosixMessage{Priority: priority, Text: slices.Clone(buf[:got])})
		case !errors.Is(e, unix.EINTR):
			err = fmt.Errorf("mq_receive: %w", e)
		}
	}
	for _, m := range q.Messages {
		if e := sendAgain(fd, m); e != nil {
			_ = d.Release(true) // better the last image than a message lost
			return fmt.Errorf("put %d messages back: %w: the job was ended", len(q.Messages), e)
		}
	}
	for _, m := range q.Messages {
		err = cmp.Or(err, messageTooLong("/"+q.Name, len(m.Text)))
	}
	return err
}

// sendAgain is patient: the memory that the message needs was just made free.
func sendAgain(fd int, m *imagepb.PosixMessage) error {
	for try := 0; ; try++ {
		err := mqSend(fd, m.Text, m.Priority)
		if err == nil || try == 100 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// describeMqueue finds the queue of a descriptor; one that was removed is met
// here for the first time.
func (d *Dump) describeMqueue(f *file) error {
	f.pb.Kind = imagepb.OpenFile_MQUEUE
	if d.agent == nil {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: a message queue of the host, which others may use", f))
		return nil
	}
	if at := slices.Index(d.queueInos, f.st.Ino); at >= 0 {
		f.pb.PosixQueue = uint32(at)
		return nil
	}
	fd, err := f.openAgain(unix.O_RDWR | unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer fd.Close()
	at, err := d.posixQueue(int(fd.Fd()), strings.TrimSuffix(strings.TrimPrefix(f.link, "/"), " (deleted)"))
	if err != nil {
		return err
	}
	d.meta.PosixQueues[at].Unlinked = true
	f.pb.PosixQueue = at
	return nil
}
