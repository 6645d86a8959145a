// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// describePipe notes one end of a pipe or FIFO, and, at its first end, the pipe.
func (d *Dump) describePipe(f *file) error {
	f.pb.Kind = imagepb.OpenFile_PIPE
	f.pb.WriteEnd = accessMode(f.info.Flags) == unix.O_WRONLY
	path := ""
	if f.link[0] == '/' && f.named() { // one that was removed is but a pipe
		f.pb.Kind, path = imagepb.OpenFile_FIFO, f.link
	}
	f.pb.Path = path
	for i, known := range d.pipeOf {
		if known.st.Dev == f.st.Dev && known.st.Ino == f.st.Ino {
			f.pb.Pipe = uint32(i)
			return nil
		}
	}
	pipe, err := d.readPipe(f)
	if err != nil || pipe == nil {
		return err
	}
	pipe.Path = path
	f.pb.Pipe = uint32(len(d.meta.Pipes))
	d.meta.Pipes = append(d.meta.Pipes, pipe)
	d.pipeOf = append(d.pipeOf, f)
	return nil
}

// readPipe copies what a pipe holds without taking it out. It returns nil, and
// notes why, where somebody outside the job has one of the ends.
func (d *Dump) readPipe(f *file) (*imagepb.Pipe, error) {
	readers, writers := d.pipeEnds(f)
	hangup, broken, err := f.poll()
	if err != nil {
		return nil, err
	}
	// poll(2) tells of the far end: POLLHUP means no writer, POLLERR no reader.
	pipe := &imagepb.Pipe{NoReader: !readers, NoWriter: !writers}
	if !writers && !hangup {
		hangup = f.neverWritten()
	}
	if !d.o.Cut && (!writers && !hangup || !readers && !broken) {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: the other end of this pipe is outside the job%s", f, d.outsideEnd(f)))
		return nil, nil
	}
	// Through /proc even the write end gives us a read end (pipe(7), fifo_open).
	r, err := f.openAgain(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	size, err := unix.FcntlInt(r.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return nil, fmt.Errorf("pipe size: %w", err)
	}
	pipe.Capacity = uint32(size)
	pipe.Content, pipe.Packets, err = peekPipe(int(r.Fd()), size)
	if len(pipe.Packets) == 1 && !d.writesPackets(f) {
		pipe.Packets = nil
	}
	return pipe, err
}

// neverWritten says that a pipe is empty and nobody can write to it: a FIFO that
// was opened for reading before anybody opened it for writing tells poll(2) of no
// hang-up. For tee(2) it is at its end; if there is a writer, that has to wait.
func (f *file) neverWritten() bool {
	r, err := f.openAgain(unix.O_RDONLY | unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer r.Close()
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return false
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	n, err := unix.Tee(int(r.Fd()), p[1], 1, unix.SPLICE_F_NONBLOCK)
	return n == 0 && err == nil
}

// pipeEnds says which ends of the file's pipe the job has.
func (d *Dump) pipeEnds(f *file) (readers, writers bool) {
	for _, other := range d.files.list {
		if other.st.Dev == f.st.Dev && other.st.Ino == f.st.Ino {
			mode := accessMode(other.info.Flags)
			readers = readers || mode != unix.O_WRONLY
			writers = writers || mode != unix.O_RDONLY
		}
	}
	return readers, writers
}

func (d *Dump) writesPackets(f *file) bool {
	return slices.ContainsFunc(d.files.list, func(other *file) bool {
		return other.st.Dev == f.st.Dev && other.st.Ino == f.st.Ino && other.info.Flags&unix.O_DIRECT != 0
	})
}

// poll asks a duplicate of the very descriptor: one of our own would count as
// an end of the pipe.
func (f *file) poll() (hangup, broken bool, err error) {
	fd, err := f.borrow()
	if err != nil {
		return false, false, err
	}
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	if _, err := unix.Poll(p, 0); err != nil {
		return false, false, fmt.Errorf("poll: %w", err)
	}
	return p[0].Revents&unix.POLLHUP != 0, p[0].Revents&unix.POLLERR != 0, nil
}

// borrow duplicates the descriptor into this process (pidfd_getfd(2)). The copy
// shares offset, flags and all.
func (f *file) borrow() (int, error) {
	pidfd, err := unix.PidfdOpen(f.hostPid, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // a thread's number
		pidfd, err = unix.PidfdOpen(f.hostPid, freeze.PidfdThread)
	}
	if err != nil {
		return -1, fmt.Errorf("open pid %d: %w", f.pid, err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, f.fd, 0)
	if err != nil {
		return -1, fmt.Errorf("borrow descriptor %d: %w", f.fd, err)
	}
	return fd, nil
}

// peekPipe copies the content by tee(2), which does not consume it. Beyond
// pipe-user-pages-soft (pipe(7)) our own pipe may be smaller than that of the
// job; mostly it is big enough for what is in there. The copy has packets where the
// pipe has them (O_DIRECT, pipe2(2)): a read takes one of them.
func peekPipe(fd, size int) (content []byte, packets []uint32, err error) {
	held, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD
	if err != nil {
		return nil, nil, fmt.Errorf("size up the content of a pipe: %w", err)
	}
	if held == 0 {
		return nil, nil, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, nil, err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if _, err := unix.FcntlInt(uintptr(p[1]), unix.F_SETPIPE_SZ, size); err != nil && err != unix.EPERM {
		return nil, nil, fmt.Errorf("make a pipe of %d bytes: %w", size, err)
	}
	n, err := unix.Tee(fd, p[1], size, unix.SPLICE_F_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("copy the content of a pipe: %w", err)
	}
	if n < int64(held) {
		return nil, nil, fmt.Errorf("copy the content of a pipe: no room for all %d bytes: the user has too many pipes (fs.pipe-user-pages-soft)", held)
	}
	content = make([]byte, n)
	for at := 0; at < len(content); {
		got, err := unix.Read(p[0], content[at:])
		if err != nil || got == 0 {
			return nil, nil, fmt.Errorf("read the content of a pipe: %w", err)
		}
		at += got
		packets = append(packets, uint32(got))
	}
	return content, packets, nil
}
