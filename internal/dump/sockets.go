// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// describePairs finds which sockets of the job are two ends of a socketpair(2)
// and copies what waits in them. All other sockets are refused for now.
func (d *Dump) describePairs() error {
	byIno := map[uint32]*file{}
	for _, f := range d.files.list {
		if f.st.Mode&unix.S_IFMT == unix.S_IFSOCK && f.pb.Kind == imagepb.OpenFile_SOCKET {
			byIno[uint32(f.st.Ino)] = f
		}
	}
	if len(byIno) == 0 {
		return nil
	}
	diag, err := openUnixDiag()
	if err != nil {
		return err
	}
	defer diag.close()
	done := map[uint32]bool{}
	for _, f := range d.files.list {
		ino := uint32(f.st.Ino)
		if byIno[ino] != f || done[ino] {
			continue
		}
		s, err := diag.socket(ino)
		if err != nil {
			d.refuseSocket(f, err.Error())
			continue
		}
		peer := byIno[s.peer]
		if s.peer != 0 && peer == nil && !d.o.Cut {
			d.refuseSocket(f, "it is connected to a process outside the job")
			continue
		}
		done[ino], done[s.peer] = true, true
		if err := d.describePair(s, f, peer); err != nil {
			d.refuseSocket(f, err.Error())
		}
	}
	return nil
}

func (d *Dump) refuseSocket(f *file, why string) {
	d.files.refused = append(d.files.refused, fmt.Sprintf("%s: %s", f, why))
}

// describePair notes a pair; peer is nil when that end was closed.
func (d *Dump) describePair(s unixSocket, f, peer *file) error {
	index := uint32(len(d.meta.SocketPairs))
	pair := &imagepb.SocketPair{Type: int32(s.kind)}
	for i, end := range []*file{f, peer} {
		if end == nil {
			pair.Ends = append(pair.Ends, &imagepb.SocketEnd{Closed: true})
			continue
		}
		e, err := describeEnd(end, s.kind)
		if err != nil {
			return err
		}
		end.pb.SocketPair, end.pb.SocketEnd = index, uint32(i)
		pair.Ends = append(pair.Ends, e)
	}
	pair.Ends[0].Shutdown = s.shutdown
	d.meta.SocketPairs = append(d.meta.SocketPairs, pair)
	return nil
}

func describeEnd(f *file, kind int) (*imagepb.SocketEnd, error) {
	fd, err := f.borrow()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	e := &imagepb.SocketEnd{Ino: f.st.Ino}
	for option, to := range map[int]*uint32{unix.SO_SNDBUF: &e.Sndbuf, unix.SO_RCVBUF: &e.Rcvbuf} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return nil, fmt.Errorf("socket option %d: %w", option, err)
		}
		*to = uint32(v)
	}
	for option, to := range map[int]*int64{unix.SO_RCVTIMEO: &e.RcvtimeoNs, unix.SO_SNDTIMEO: &e.SndtimeoNs} {
		tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
		if err != nil {
			return nil, fmt.Errorf("socket option %d: %w", option, err)
		}
		*to = tv.Nano()
	}
	cred, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED)
	if err != nil {
		return nil, err
	}
	e.Passcred = cred != 0
	e.Queue, err = peekSocket(fd, kind)
	return e, err
}

const soPeekOff = 42 // SO_PEEK_OFF, socket(7)

// peekSocket copies what waits in the socket without taking it out.
func peekSocket(fd, kind int) ([][]byte, error) {
	old, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, soPeekOff)
	if err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, soPeekOff, 0); err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, soPeekOff, old) }()
	var queue [][]byte
	buf, control := make([]byte, 1<<20), make([]byte, 4096)
	for {
		n, nc, flags, _, err := unix.Recvmsg(fd, buf, control, unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0, errors.Is(err, unix.ECONNRESET):
			return queue, nil
		case err != nil:
			return nil, fmt.Errorf("peek: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return nil, errors.New("a queued message is larger than 1 MiB")
		case carriesDescriptors(control[:nc]):
			return nil, errors.New("descriptors in flight (SCM_RIGHTS) are not carried yet")
		}
		queue = append(queue, append([]byte(nil), buf[:n]...))
	}
}

// carriesDescriptors says so, and closes the copies that the kernel gave us.
func carriesDescriptors(control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	found := false
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			found = true
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
	}
	return found
}

// unixDiag is a sock_diag(7) socket: the only way to learn the peer of a unix
// socket.
type unixDiag struct{ fd int }

// unixSocket is what it tells.
type unixSocket struct {
	kind     int
	peer     uint32 // inode, 0 when it is closed
	shutdown uint32
}

func openUnixDiag() (*unixDiag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	tv := unix.NsecToTimeval(int64(time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	return &unixDiag{fd}, nil
}

func (u *unixDiag) close() { unix.Close(u.fd) }

// Numbers from include/uapi/linux/{sock_diag,unix_diag}.h.
const (
	sockDiagByFamily = 20
	showName         = 1 << 0
	showPeer         = 1 << 2
	attrName         = 0
	attrPeer         = 2
	attrShutdown     = 6
	stateListen      = 10
	nlHeader         = 16
	diagMsg          = 16
)

var errNotAPair = errors.New("sockets other than those of socketpair(2) are not carried yet")

func (u *unixDiag) socket(ino uint32) (unixSocket, error) {
	if err := unix.Sendto(u.fd, diagRequest(ino), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return unixSocket{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, 4096)
	n, _, err := unix.Recvfrom(u.fd, buf, 0)
	if err != nil {
		return unixSocket{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	return parseDiag(buf[:n])
}

func diagRequest(ino uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, nlHeader+24)
	b = le.AppendUint16(b, sockDiagByFamily)
	b = le.AppendUint16(b, unix.NLM_F_REQUEST)
	b = le.AppendUint64(b, 0) // sequence, port
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	b = le.AppendUint32(b, ^uint32(0)) // all states
	b = le.AppendUint32(b, ino)
	b = le.AppendUint32(b, showName|showPeer)
	return le.AppendUint64(b, ^uint64(0)) // no cookie
}

func parseDiag(b []byte) (unixSocket, error) {
	if len(b) < nlHeader+diagMsg || binary.LittleEndian.Uint16(b[4:]) != sockDiagByFamily {
		return unixSocket{}, errNotAPair // not a unix socket
	}
	m := b[nlHeader:]
	s := unixSocket{kind: int(m[1])}
	if m[2] == stateListen {
		return s, errNotAPair
	}
	seenPeer := false
	for a := m[diagMsg:]; len(a) >= 4; {
		length, kind := int(binary.LittleEndian.Uint16(a)), binary.LittleEndian.Uint16(a[2:])
		if length < 4 || length > len(a) {
			break
		}
		switch kind {
		case attrName:
			if length > 4 {
				return s, errNotAPair
			}
		case attrPeer:
			s.peer, seenPeer = binary.LittleEndian.Uint32(a[4:]), true
		case attrShutdown:
			s.shutdown = uint32(a[4])
		}
		a = a[min((length+3)&^3, len(a)):]
	}
	if !seenPeer && s.shutdown == 0 && s.kind != unix.SOCK_DGRAM {
		return s, errNotAPair // not connected
	}
	return s, nil
}
