// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Address is the internet address in a struct sockaddr; one that is IPv4 in IPv6
// is the IPv4 address (ipv6(7)).
func Address(name []byte) (netip.AddrPort, bool) {
	if len(name) < 8 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(name[2:])
	switch family := binary.LittleEndian.Uint16(name); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port), true
	case family == unix.AF_INET6 && len(name) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(name[8:24])).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}

// Sockaddr is the reverse of Address, as a socket of a family takes it.
func Sockaddr(a netip.AddrPort, family int) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(family))
	b = binary.BigEndian.AppendUint16(b, a.Port())
	if family == unix.AF_INET {
		v4 := a.Addr().As4()
		return append(append(b, v4[:]...), make([]byte, 8)...)
	}
	b = append(b, 0, 0, 0, 0)
	v6 := a.Addr().As16()
	return append(append(b, v6[:]...), 0, 0, 0, 0)
}

// InFamily is a name as a socket of a family takes it.
func InFamily(name []byte, family int) []byte {
	a, ok := Address(name)
	if !ok || family == unix.AF_INET && !a.Addr().Is4() {
		return name
	}
	return Sockaddr(a, family)
}

// SameAddress says that two names are of the same address and port.
func SameAddress(a, b []byte) bool {
	x, ok := Address(a)
	y, ok2 := Address(b)
	return ok && ok2 && x == y
}

// Connection names one end of a connection: an address of its own and that of the
// other end.
type Connection struct{ Local, Remote netip.AddrPort }

// ConnectionOf is the connection with such names; ok says that they are of IP.
func ConnectionOf(local, remote []byte) (c Connection, ok bool) {
	l, ok := Address(local)
	r, ok2 := Address(remote)
	return Connection{l, r}, ok && ok2
}

// Reverse is the same connection for the other end.
func (c Connection) Reverse() Connection { return Connection{c.Remote, c.Local} }

// Accepts says that a socket that listens at a name gets the connections to
// another.
func Accepts(listener, to []byte) bool {
	l, ok := Address(listener)
	t, ok2 := Address(to)
	return ok && ok2 && l.Port() == t.Port() && (l.Addr().IsUnspecified() || l.Addr() == t.Addr())
}

// OneHost says that the ends of a connection are of one address: nobody else's
// connections are, and those within a host are unless they ask for another.
func OneHost(a, b []byte) bool {
	x, ok := Address(a)
	y, ok2 := Address(b)
	return ok && ok2 && x.Addr() == y.Addr()
}

// Row is a line of /proc/net/tcp, see proc_net(5).
type Row struct {
	Local, Remote []byte // struct sockaddr
	State         uint8
	Ino           uint64
	Unread        uint64 // bytes that wait to be read
}

// TCPTable reads /proc/net/tcp and tcp6.
func TCPTable() []Row {
	var all []Row
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open("/proc/self/net/" + name)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for in := bufio.NewScanner(f); in.Scan(); {
			if r, err := parseRow(in.Text()); err == nil {
				all = append(all, r)
			}
		}
		f.Close()
	}
	return all
}

func parseRow(line string) (r Row, err error) {
	const local, remote, state, queues, inode = 1, 2, 3, 4, 9
	f := strings.Fields(line)
	if len(f) <= inode {
		return r, fmt.Errorf("%d fields", len(f))
	}
	if r.Local, err = parseAddress(f[local]); err != nil {
		return r, err
	}
	if r.Remote, err = parseAddress(f[remote]); err != nil {
		return r, err
	}
	st, err := strconv.ParseUint(f[state], 16, 8)
	if err != nil {
		return r, err
	}
	r.State = uint8(st)
	_, rx, _ := strings.Cut(f[queues], ":")
	if r.Unread, err = strconv.ParseUint(rx, 16, 64); err != nil {
		return r, err
	}
	r.Ino, err = strconv.ParseUint(f[inode], 10, 64)
	return r, err
}

// parseAddress reads an address as the kernel prints it: words of four bytes in
// the order of this machine, and the port.
func parseAddress(s string) ([]byte, error) {
	words, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	if err != nil {
		return nil, err
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return nil, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return nil, fmt.Errorf("address %q", s)
	}
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	return Sockaddr(netip.AddrPortFrom(addr, uint16(p)), family), nil
}
