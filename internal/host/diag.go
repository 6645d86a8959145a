// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	sockDiagByFamily = 20
	udiagShowPeer    = 4
	unixDiagPeer     = 2
	nlHeader         = 16 // struct nlmsghdr
	diagRequest      = 24 // struct unix_diag_req
	diagMessage      = 16 // struct unix_diag_msg
)

// diagCheck: sock_diag(7) tells which unix socket is connected to which.
func diagCheck() Check {
	return verdict(CheckDiag, false, "tells which sockets belong together", askForPeer(), func(err error) string {
		return callFix(err, "AF_NETLINK sockets", "CONFIG_UNIX_DIAG (modprobe unix_diag)")
	})
}

// askForPeer asks about one end of a pair of sockets and wants the other named.
func askForPeer() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	var ends [2]unix.Stat_t
	for i := range ends {
		if err := unix.Fstat(pair[i], &ends[i]); err != nil {
			return fmt.Errorf("fstat: %w", err)
		}
	}
	answer, err := askDiag(uint32(ends[0].Ino))
	if err != nil {
		return err
	}
	peer, err := peerOf(answer)
	if err == nil && peer != uint32(ends[1].Ino) {
		err = fmt.Errorf("peer of socket %d: want %d, got %d", ends[0].Ino, ends[1].Ino, peer)
	}
	return err
}

// askDiag sends one request for one socket.
func askDiag(ino uint32) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("socket NETLINK_SOCK_DIAG: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, fmt.Errorf("limit the wait for sock_diag: %w", err)
	}
	ne := binary.NativeEndian
	req := make([]byte, nlHeader+diagRequest)
	ne.PutUint32(req, uint32(len(req)))
	ne.PutUint16(req[4:], sockDiagByFamily)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST)
	body := req[nlHeader:]
	body[0] = unix.AF_UNIX
	ne.PutUint32(body[4:], ^uint32(0)) // any state
	ne.PutUint32(body[8:], ino)
	ne.PutUint32(body[12:], udiagShowPeer)
	ne.PutUint64(body[16:], ^uint64(0)) // no cookie
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask sock_diag: %w", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return nil, fmt.Errorf("hear of sock_diag: %w", err)
	}
	return answer[:n], nil
}

var errDiag = errors.New("sock_diag does not answer the question")

// peerOf reads the answer: a message about the socket, then attributes.
func peerOf(b []byte) (uint32, error) {
	ne := binary.NativeEndian
	if len(b) < nlHeader+4 {
		return 0, errDiag
	}
	switch ne.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		return 0, fmt.Errorf("ask sock_diag: %w", unix.Errno(-int32(ne.Uint32(b[nlHeader:]))))
	case sockDiagByFamily:
	default:
		return 0, errDiag
	}
	for b = b[min(nlHeader+diagMessage, len(b)):]; len(b) >= 8; {
		size := int(ne.Uint16(b))
		if ne.Uint16(b[2:]) == unixDiagPeer && size == 8 {
			return ne.Uint32(b[4:]), nil
		}
		if size < 4 {
			break
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0, errDiag
}
