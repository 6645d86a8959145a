// SPDX-License-Identifier: Apache-2.0

// Package socket is what the kernel tells of sockets beyond what the standard
// library asks for: names and options byte by byte, queues that are looked at
// and left, and, by sock_diag(7), which socket is the other end of which.
package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// States of a socket, include/net/tcp_states.h.
const (
	Established = 1
	Closed      = 7
	Listening   = 10
)

// Unix is what the kernel tells of a unix socket.
type Unix struct {
	Type     int
	State    int
	Shutdown uint32 // 1 read, 2 write, 3 both
	// Connected says that it has a peer; PeerIno is 0 where that is closed, or
	// has not been accepted yet.
	Connected bool
	PeerIno   uint32
	// Waiting are the inodes of the sockets whose connections a listening one
	// has not accepted yet, in their order; 0 is one that is closed.
	Waiting []uint32
	Backlog uint32
	// FileIno and FileDev are of the socket's file, where it has a path. The
	// device is as the kernel prints it: 12 bits major, 20 bits minor.
	FileIno, FileDev uint32
}

// ErrNotUnix says that there is no unix socket with an inode.
var ErrNotUnix = errors.New("no unix socket of this network namespace")

// Diag is a connection to the kernel's sock_diag(7), which any user may ask. It
// is the only way to learn the peer of a unix socket, and who waits to be accepted.
type Diag struct{ fd int }

// OpenDiag connects to the kernel.
func OpenDiag() (*Diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	tv := unix.NsecToTimeval(int64(time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	return &Diag{fd}, nil
}

// Close ends the connection.
func (d *Diag) Close() { unix.Close(d.fd) }

// Numbers of include/uapi/linux/{sock_diag,unix_diag}.h.
const (
	sockDiagByFamily = 20
	showName         = 1 << 0
	showVFS          = 1 << 1
	showPeer         = 1 << 2
	showIcons        = 1 << 3
	showRqlen        = 1 << 4
	attrVFS          = 1
	attrPeer         = 2
	attrIcons        = 3
	attrRqlen        = 4
	attrShutdown     = 6
	nlHeader         = 16
	diagMsg          = 16
	attrHeader       = 4
)

// Unix describes the unix socket with that inode.
func (d *Diag) Unix(ino uint32) (Unix, error) {
	if err := unix.Sendto(d.fd, request(ino), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Unix{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, 64<<10) // a backlog of some thousands
	n, _, err := unix.Recvfrom(d.fd, buf, 0)
	if err != nil {
		return Unix{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	return parse(buf[:n])
}

func request(ino uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, nlHeader+24)
	b = le.AppendUint16(b, sockDiagByFamily)
	b = le.AppendUint16(b, unix.NLM_F_REQUEST)
	b = le.AppendUint64(b, 0) // sequence, port
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	b = le.AppendUint32(b, ^uint32(0)) // all states
	b = le.AppendUint32(b, ino)
	b = le.AppendUint32(b, showName|showVFS|showPeer|showIcons|showRqlen)
	return le.AppendUint64(b, ^uint64(0)) // no cookie
}

func parse(b []byte) (Unix, error) {
	le := binary.LittleEndian
	if len(b) < nlHeader+diagMsg || le.Uint16(b[4:]) != sockDiagByFamily {
		return Unix{}, ErrNotUnix
	}
	m := b[nlHeader:]
	s := Unix{Type: int(m[1]), State: int(m[2])}
	for a := m[diagMsg:]; len(a) >= attrHeader; {
		length, kind := int(le.Uint16(a)), le.Uint16(a[2:])
		if length < attrHeader || length > len(a) {
			return s, errors.New("sock_diag: an attribute without an end")
		}
		s.attribute(kind, a[attrHeader:length])
		a = a[min((length+3)&^3, len(a)):]
	}
	return s, nil
}

func (s *Unix) attribute(kind uint16, v []byte) {
	le := binary.LittleEndian
	switch {
	case kind == attrVFS && len(v) >= 8:
		s.FileIno, s.FileDev = le.Uint32(v), le.Uint32(v[4:])
	case kind == attrPeer && len(v) >= 4:
		s.PeerIno, s.Connected = le.Uint32(v), true
	case kind == attrIcons:
		for ; len(v) >= 4; v = v[4:] {
			s.Waiting = append(s.Waiting, le.Uint32(v))
		}
	case kind == attrRqlen && len(v) >= 8:
		s.Backlog = le.Uint32(v[4:])
	case kind == attrShutdown && len(v) >= 1:
		s.Shutdown = uint32(v[0])
	}
}
