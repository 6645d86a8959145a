// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// OptionName names an option of getsockopt(2).
type OptionName struct{ Level, Name int }

// bufLock is SO_BUF_LOCK of include/uapi/asm-generic/socket.h: which of the
// buffers have a size that the program has asked for. Linux 5.14 and later.
const bufLock = 72

// Options that golang.org/x/sys/unix does not have.
const (
	soPassPidfd    = 76
	tcpTxDelay     = 37
	udpCork        = 1
	udpNoCheck6Tx  = 101
	udpNoCheck6Rx  = 102
	ipLocalPorts   = 51
	ipv6AutoLabel  = 70
	soPreferBusy   = 69
	soTimestampNew = 63
)

var generic = []int{
	unix.SO_REUSEADDR, unix.SO_REUSEPORT, unix.SO_DONTROUTE, unix.SO_BROADCAST, unix.SO_KEEPALIVE, unix.SO_OOBINLINE,
	unix.SO_PRIORITY, unix.SO_LINGER, unix.SO_PASSCRED, unix.SO_PASSSEC, soPassPidfd, unix.SO_RCVLOWAT,
	unix.SO_RCVTIMEO, unix.SO_SNDTIMEO, unix.SO_BINDTODEVICE, unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, soTimestampNew,
	unix.SO_TIMESTAMPING, unix.SO_MARK, unix.SO_RXQ_OVFL, unix.SO_PEEK_OFF, unix.SO_BUSY_POLL, soPreferBusy,
	unix.SO_MAX_PACING_RATE, unix.SO_NO_CHECK, unix.SO_ZEROCOPY, unix.SO_SNDBUF, unix.SO_RCVBUF, bufLock,
}

var ofIP = []int{
	unix.IP_TOS, unix.IP_TTL, unix.IP_MTU_DISCOVER, unix.IP_RECVERR, unix.IP_PKTINFO, unix.IP_RECVTTL, unix.IP_RECVTOS,
	unix.IP_FREEBIND, unix.IP_BIND_ADDRESS_NO_PORT, unix.IP_RECVORIGDSTADDR, unix.IP_MINTTL, unix.IP_UNICAST_IF, ipLocalPorts,
}

var ofIPv6 = []int{
	unix.IPV6_V6ONLY, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS, unix.IPV6_RECVTCLASS, unix.IPV6_MTU_DISCOVER, unix.IPV6_RECVERR,
	unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT, unix.IPV6_DONTFRAG, unix.IPV6_FREEBIND, ipv6AutoLabel, unix.IPV6_ADDR_PREFERENCES,
}

// Streams have these too, and refuse to have them set (ip(7)).
var (
	ofMulticast   = []int{unix.IP_MULTICAST_IF, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL}
	ofMulticastV6 = []int{unix.IPV6_MULTICAST_IF, unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_LOOP}
)

var ofTCP = []int{
	unix.TCP_NODELAY, unix.TCP_CORK, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_SYNCNT, unix.TCP_LINGER2,
	unix.TCP_DEFER_ACCEPT, unix.TCP_CONGESTION, unix.TCP_USER_TIMEOUT, unix.TCP_FASTOPEN, unix.TCP_NOTSENT_LOWAT,
	unix.TCP_SAVE_SYN, unix.TCP_FASTOPEN_CONNECT, unix.TCP_INQ, tcpTxDelay,
}

var ofUDP = []int{udpCork, udpNoCheck6Tx, udpNoCheck6Rx, unix.UDP_SEGMENT, unix.UDP_GRO}

// Options are the options that a kind of socket may have, in an order in which
// they can be set.
func Options(domain, kind, protocol int) []OptionName {
	var all []OptionName
	add := func(level int, names []int) {
		for _, n := range names {
			all = append(all, OptionName{level, n})
		}
	}
	add(unix.SOL_SOCKET, generic)
	switch domain {
	case unix.AF_INET6:
		add(unix.IPPROTO_IPV6, ofIPv6)
		add(unix.IPPROTO_IP, ofIP)
	case unix.AF_INET:
		add(unix.IPPROTO_IP, ofIP)
	default:
		return all
	}
	switch {
	case kind == unix.SOCK_STREAM && IsTCP(protocol):
		add(unix.IPPROTO_TCP, ofTCP)
	case kind == unix.SOCK_DGRAM && protocol == unix.IPPROTO_UDP:
		add(unix.IPPROTO_IP, ofMulticast)
		if domain == unix.AF_INET6 {
			add(unix.IPPROTO_IPV6, ofMulticastV6)
		}
		add(unix.IPPROTO_UDP, ofUDP)
	}
	return all
}

// IsTCP says that a protocol is TCP, or the multipath TCP in which Go's programs
// listen: a connection to one that has plain TCP is plain TCP.
func IsTCP(protocol int) bool {
	return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP
}

// SetByUser leaves out the sizes of buffers that the program has not asked for:
// the kernel makes those of TCP larger and smaller by itself, and once they are
// set it does so no more (tcp(7)).
func SetByUser(options []*imagepb.SocketOption) []*imagepb.SocketOption {
	locked, known := uint32(0), false
	for _, o := range options {
		if o.Level == unix.SOL_SOCKET && o.Name == bufLock && len(o.Value) == 4 {
			locked, known = binary.LittleEndian.Uint32(o.Value), true
		}
	}
	if !known {
		return options
	}
	var kept []*imagepb.SocketOption
	for _, o := range options {
		const sndbufLocked, rcvbufLocked = 1, 2
		if o.Level == unix.SOL_SOCKET &&
			(o.Name == unix.SO_SNDBUF && locked&sndbufLocked == 0 || o.Name == unix.SO_RCVBUF && locked&rcvbufLocked == 0) {
			continue
		}
		kept = append(kept, o)
	}
	return kept
}
