// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

const (
	soPeekOff  = 42 // SO_PEEK_OFF, socket(7)
	largest    = 1 << 20
	controlLen = 8192 // SCM_MAX_FD descriptors and credentials
)

// peekMessages copies what waits in a socket, message by message, without
// taking it out: SO_PEEK_OFF moves on behind what was looked at.
func (d *Dump) peekMessages(s *jobSocket) error {
	old, err := unix.GetsockoptInt(s.dup, unix.SOL_SOCKET, soPeekOff)
	if err != nil {
		return fmt.Errorf("peek: %w", err)
	}
	defer func() { _ = unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, soPeekOff, old) }()
	if d.sockets.buf == nil {
		d.sockets.buf = make([]byte, largest)
	}
	for at := 0; ; {
		r, err := s.peekAt(at, d.sockets.buf)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.EINVAL):
			return nil
		case err != nil:
			return fmt.Errorf("peek: %w", err)
		case r.Flags&unix.MSG_TRUNC != 0:
			return d.forget(s, r, "a queued message is larger than 1 MiB")
		case r.Flags&unix.MSG_CTRUNC != 0:
			return d.forget(s, r, "more descriptors on their way than this process may open: raise the limit (ulimit -n)")
		case len(r.Data) == 0 && (s.pb.Type != unix.SOCK_DGRAM || lastIsEmpty(s.pb.Queue)):
			return nil // the end
		}
		n := len(r.Data)
		if err := d.addMessages(s, at, r); err != nil {
			return err
		}
		at += n
	}
}

// peekAt looks at what begins at an offset of the queue.
func (s *jobSocket) peekAt(at int, buf []byte) (socket.Received, error) {
	if err := unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, soPeekOff, at); err != nil {
		return socket.Received{}, err
	}
	return socket.Receive(s.dup, unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC, buf, make([]byte, controlLen))
}

func lastIsEmpty(queue []*imagepb.SocketMessage) bool {
	return len(queue) > 0 && len(queue[len(queue)-1].Data) == 0
}

// addMessages notes what was looked at. In a stream the kernel gives what
// several sends have left as one, up to the first that has descriptors with it,
// and does not tell where that begins. It ends here: so its descriptors go with
// the last byte, which whoever reads what comes before does not take yet.
func (d *Dump) addMessages(s *jobSocket, at int, r socket.Received) error {
	m := &imagepb.SocketMessage{Data: slices.Clone(r.Data), From: slices.Clone(r.From)}
	fds, pid, err := parseControl(r.Control)
	if err != nil {
		return err
	}
	m.Pid = d.jobPid(pid)
	for i, fd := range fds {
		index, err := d.inFlight(s, fd)
		if err != nil {
			closeAll(fds[i:])
			return fmt.Errorf("a descriptor on its way: %w", err)
		}
		m.OpenFiles = append(m.OpenFiles, index)
	}
	if before := len(m.Data) - 1; len(fds) > 0 && s.pb.Type == unix.SOCK_STREAM && before > 0 {
		s.pb.Queue = append(s.pb.Queue, &imagepb.SocketMessage{Data: m.Data[:before], Pid: m.Pid})
		m.Data = m.Data[before:]
	}
	s.pb.Queue = append(s.pb.Queue, m)
	return nil
}

// forget refuses a socket for what was found in it.
func (d *Dump) forget(s *jobSocket, r socket.Received, why string) error {
	fds, _, _ := parseControl(r.Control)
	closeAll(fds)
	d.refuseSocket(s.file, why)
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// parseControl finds descriptors and the sender's pid in ancillary data (unix(7)).
func parseControl(control []byte) (fds []int, pid int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, 0, fmt.Errorf("ancillary data: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_RIGHTS:
			more, err := unix.ParseUnixRights(&m)
			if err != nil {
				return fds, pid, err
			}
			fds = append(fds, more...)
		case unix.SCM_CREDENTIALS:
			if len(m.Data) >= 4 {
				pid = int(int32(binary.LittleEndian.Uint32(m.Data)))
			}
		case unix.SCM_PIDFD:
			if len(m.Data) >= 4 {
				unix.Close(int(int32(binary.LittleEndian.Uint32(m.Data))))
			}
		}
	}
	return fds, pid, nil
}
