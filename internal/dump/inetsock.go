// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

// States of a TCP socket, include/net/tcp_states.h.
const (
	tcpSynSent   = 2
	tcpSynRecv   = 3
	tcpFinWait1  = 4
	tcpFinWait2  = 5
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpListen    = 10
	tcpClosing   = 11
)

const (
	shutRead  = 1
	shutWrite = 2
)

// describeInet notes a TCP or UDP socket; why is the reason where it cannot be
// carried.
func (d *Dump) describeInet(s *jobSocket) (why string, err error) {
	if s.pb.Name, err = socket.Name(s.dup); err != nil {
		return "", fmt.Errorf("name: %w", err)
	}
	if s.pb.PeerName, err = socket.PeerName(s.dup); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return "", fmt.Errorf("name of the other end: %w", err)
	}
	if filter, err := unix.GetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_GET_FILTER); err == nil && filter > 0 {
		return "a packet filter on a socket is not carried yet", nil
	}
	switch {
	case s.pb.Type == unix.SOCK_STREAM && socket.IsTCP(int(s.pb.Protocol)):
		return d.describeTCP(s)
	case s.pb.Type == unix.SOCK_DGRAM && s.pb.Protocol == unix.IPPROTO_UDP:
		if s.pb.PeerName != nil {
			s.pb.State = imagepb.Socket_CONNECTED
		}
		return "", d.peekMessages(s)
	case s.pb.Type == unix.SOCK_RAW:
		return "raw sockets are not carried", nil
	}
	return fmt.Sprintf("sockets of protocol %d are not carried yet", s.pb.Protocol), nil
}

func (d *Dump) describeTCP(s *jobSocket) (why string, err error) {
	info, err := unix.GetsockoptTCPInfo(s.dup, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return "", fmt.Errorf("TCP_INFO: %w", err)
	}
	events, err := s.poll()
	if err != nil {
		return "", err
	}
	pb := s.pb
	switch info.State {
	case tcpListen:
		pb.State, pb.Backlog = imagepb.Socket_LISTENING, info.Sacked // sk_max_ack_backlog, tcp_get_info
		return d.abandonedInQueue(s), nil
	case tcpSynSent, tcpSynRecv:
		pb.State = imagepb.Socket_CONNECTING
		return d.findConnecting(s)
	case tcpClose:
		if events&unix.POLLRDHUP != 0 { // it was connected: a new one has nothing shut down
			pb.State, pb.Broken = imagepb.Socket_RESET, events&unix.POLLERR != 0
		}
		return "", nil
	case tcpFinWait1, tcpFinWait2, tcpLastAck, tcpClosing:
		pb.Shutdown |= shutWrite
	}
	if events&unix.POLLRDHUP != 0 && info.State != tcpCloseWait && info.State != tcpLastAck && info.State != tcpClosing {
		pb.Shutdown |= shutRead
	}
	return d.describeConnection(s, info.State)
}

// describeConnection looks for the other end and copies what has arrived.
func (d *Dump) describeConnection(s *jobSocket, state uint8) (why string, err error) {
	s.pb.State = imagepb.Socket_CONNECTED
	if other := d.farEnd(s); other != nil {
		s.pb.Peer = other.index + 1
		return s.receiveAll(other)
	}
	switch state {
	case tcpCloseWait, tcpLastAck, tcpClosing:
		return s.receiveAll(nil) // the other end has said that nothing more comes
	}
	listener, row := d.acceptsLater(s)
	if listener == nil {
		s.pb.State, s.pb.Broken = imagepb.Socket_RESET, true
		return "", nil
	}
	if row.Unread > 0 {
		return sentBeforeAccept, nil
	}
	listener.pb.Waiting = append(listener.pb.Waiting, s.index+1)
	return "", nil
}

// farEnd is the socket of the job that is the other end of a TCP connection.
func (d *Dump) farEnd(s *jobSocket) *jobSocket {
	if d.sockets.connected == nil {
		d.sockets.connected = map[socket.Connection]*jobSocket{}
		for _, other := range d.sockets.list {
			if other.pb.Type != unix.SOCK_STREAM || other.pb.Domain == unix.AF_UNIX {
				continue
			}
			name, err := socket.Name(other.dup)
			peer, err2 := socket.PeerName(other.dup)
			if c, ok := socket.ConnectionOf(name, peer); ok && err == nil && err2 == nil {
				d.sockets.connected[c] = other
			}
		}
	}
	c, _ := socket.ConnectionOf(s.pb.Name, s.pb.PeerName)
	if other := d.sockets.connected[c.Reverse()]; other != s { // one can be connected with itself
		return other
	}
	return nil
}

// acceptsLater finds the listening socket of the job that has the other end of a
// connection, which has not been accepted yet: it has no inode.
func (d *Dump) acceptsLater(s *jobSocket) (*jobSocket, socket.Row) {
	if d.sockets.unaccepted == nil {
		d.sockets.unaccepted = map[socket.Connection]socket.Row{}
		for _, row := range d.tcpTable() {
			if c, ok := socket.ConnectionOf(row.Local, row.Remote); ok && row.Ino == 0 {
				d.sockets.unaccepted[c] = row
			}
		}
	}
	c, _ := socket.ConnectionOf(s.pb.Name, s.pb.PeerName)
	row, waits := d.sockets.unaccepted[c.Reverse()]
	if !waits {
		return nil, row
	}
	for _, l := range d.sockets.list {
		if l.pb.Type != unix.SOCK_STREAM || l.pb.Domain == unix.AF_UNIX {
			continue
		}
		if on, _ := unix.GetsockoptInt(l.dup, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); on == 0 {
			continue
		}
		if name, err := socket.Name(l.dup); err == nil && socket.Accepts(name, row.Local) {
			return l, row
		}
	}
	return nil, row
}

// abandonedInQueue looks for connections in the queue of a listening socket that
// were made on this host and closed again: what was sent on them is lost with it.
func (d *Dump) abandonedInQueue(s *jobSocket) (why string) {
	for _, row := range d.tcpTable() {
		if row.Ino == 0 && row.State == tcpCloseWait && socket.OneHost(row.Local, row.Remote) && socket.Accepts(s.pb.Name, row.Local) {
			return madeAndClosed
		}
	}
	return ""
}

// findConnecting finds where a connection that is being made leads to, which
// getpeername(2) does not tell yet.
func (d *Dump) findConnecting(s *jobSocket) (why string, err error) {
	for _, row := range d.tcpTable() {
		if row.Ino == s.st.Ino {
			s.pb.PeerName = socket.InFamily(row.Remote, int(s.pb.Domain))
			return "", nil
		}
	}
	return "a connection that is just being made cannot be found in /proc/net/tcp", nil
}

func (d *Dump) tcpTable() []socket.Row {
	if d.sockets.tcp == nil {
		d.sockets.tcp = socket.TCPTable()
	}
	return d.sockets.tcp
}

// arrival is how long what is on its way between two sockets of one host may take.
const arrival = time.Second

// receiveAll copies what waits in a TCP socket, without taking it out. What the
// other end has sent and this one had no room for has to arrive first: the queue
// of the sender can be read by nobody.
func (s *jobSocket) receiveAll(from *jobSocket) (why string, err error) {
	if from != nil {
		if left, err := unix.IoctlGetInt(from.dup, unix.TIOCOUTQ); err != nil || left > 0 {
			defer s.makeRoom()()
			if why := s.await(from); why != "" {
				return why, nil
			}
		}
	}
	n, err := unix.IoctlGetInt(s.dup, unix.TIOCINQ)
	if err != nil {
		return "", fmt.Errorf("size up what waits: %w", err)
	}
	if n == 0 {
		return "", nil
	}
	r, err := socket.Receive(s.dup, unix.MSG_PEEK|unix.MSG_DONTWAIT, make([]byte, n), nil)
	if err != nil {
		return "", fmt.Errorf("peek: %w", err)
	}
	if len(r.Data) < n {
		return "urgent data (MSG_OOB) is on its way", nil
	}
	for data := range slices.Chunk(r.Data, largest) {
		s.pb.Queue = append(s.pb.Queue, &imagepb.SocketMessage{Data: data})
	}
	return "", nil
}

// makeRoom lets the socket take in as much as the kernel allows. SO_RCVLOWAT
// makes the buffer larger without fixing its size (tcp_set_rcvlowat); where the
// program has fixed it, it is made larger for the time being.
func (s *jobSocket) makeRoom() (undo func()) {
	const all = 1 << 29
	low, _ := unix.GetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVLOWAT)
	size, _ := unix.GetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVBUF)
	fixed := slices.ContainsFunc(s.pb.Options, func(o *imagepb.SocketOption) bool {
		return o.Level == unix.SOL_SOCKET && o.Name == unix.SO_RCVBUF
	})
	if fixed {
		_ = unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVBUF, all)
	}
	_ = unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVLOWAT, all)
	return func() {
		_ = unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVLOWAT, low)
		if fixed {
			_ = unix.SetsockoptInt(s.dup, unix.SOL_SOCKET, unix.SO_RCVBUF, size/2) // the kernel doubles it
		}
	}
}

// await waits until all that was sent has arrived. Looking at the queue makes the
// kernel tell the sender that there is more room (tcp_cleanup_rbuf).
func (s *jobSocket) await(from *jobSocket) (why string) {
	for end := time.Now().Add(arrival); ; time.Sleep(time.Millisecond) {
		n, _ := unix.IoctlGetInt(s.dup, unix.TIOCINQ)
		_, _ = socket.Receive(s.dup, unix.MSG_PEEK|unix.MSG_DONTWAIT, make([]byte, n+1), nil)
		left, err := unix.IoctlGetInt(from.dup, unix.TIOCOUTQ)
		switch {
		case err == nil && left == 0:
			return ""
		case time.Now().After(end):
			return fmt.Sprintf("%d bytes on their way to it do not fit into its buffer: raise net.ipv4.tcp_rmem or net.core.rmem_max", left)
		}
	}
}

// dropConnections makes the connections inside the job end without a trace when
// the job does: else their ports were in TIME_WAIT for a minute, and a resume on
// this host could not have them (socket(7), SO_LINGER).
func (d *Dump) dropConnections() {
	for _, f := range d.files.list {
		s := f.pb.Socket
		if s == nil || s.Type != unix.SOCK_STREAM || s.Domain == unix.AF_UNIX || s.State != imagepb.Socket_CONNECTED || f.flying {
			continue
		}
		if fd, err := f.borrow(); err == nil {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(fd)
		}
	}
}
