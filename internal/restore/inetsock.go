// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

func isInet(s *imagepb.Socket) bool { return s.Domain == unix.AF_INET || s.Domain == unix.AF_INET6 }
func isTCP(s *imagepb.Socket) bool  { return isInet(s) && s.Type == unix.SOCK_STREAM }
func isUDP(s *imagepb.Socket) bool  { return isInet(s) && s.Type == unix.SOCK_DGRAM }

// lingering is how long addresses of connections that have just ended may be
// held by the kernel for a short time (TIME_WAIT).
const lingering = 3 * time.Second

// newInet makes a socket, with the options that matter to bind(2). SO_REUSEADDR
// lets it have a port that a connection of before has had; setOptions sets what
// the program had.
func (t *sockets) newInet(s *sock) (fd int, err error) {
	c := t.r.seed.script()
	c.add("socket", unix.SYS_SOCKET, uint64(s.pb.Domain), uint64(s.pb.Type), uint64(s.pb.Protocol))
	c.put(s.at)
	if err := c.do(); err != nil {
		return -1, err
	}
	if fd, err = t.r.borrow(s.at); err != nil {
		return -1, err
	}
	if isTCP(s.pb) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	for _, o := range s.pb.Options {
		switch {
		case o.Level == unix.SOL_SOCKET && (o.Name == unix.SO_REUSEPORT || o.Name == unix.SO_REUSEADDR && isUDP(s.pb)),
			o.Level == unix.IPPROTO_IPV6 && o.Name == unix.IPV6_V6ONLY && len(s.pb.PeerName) == 0,
			o.Level == unix.IPPROTO_IP && o.Name == unix.IP_FREEBIND:
			_ = socket.SetOption(fd, int(o.Level), int(o.Name), o.Value)
		}
	}
	return fd, nil
}

// hasPort says that a name was bound to, by the program or by connect.
func hasPort(name []byte) bool {
	a, ok := socket.Address(name)
	return ok && a.Port() != 0
}

// bindInet binds a socket to its name.
func bindInet(fd int, s *imagepb.Socket) error {
	if !hasPort(s.Name) {
		return nil
	}
	return socket.Bind(fd, s.Name)
}

// makeInetConnection makes both ends of a TCP connection, at the first of them.
func (t *sockets) makeInetConnection(s *sock) error {
	if !isTCP(s.pb) || s.made || t.waits(s) || s.pb.State != imagepb.Socket_CONNECTED && s.pb.State != imagepb.Socket_RESET {
		return nil
	}
	s.made = true
	other := t.peer(s)
	if other == nil {
		return t.connectSpare(s)
	}
	other.made = true
	s.far, other.far = other.at, s.at
	for end := time.Now().Add(lingering); ; time.Sleep(lingering / 30) {
		err := t.connectTCP(s, other)
		if err == nil {
			return nil
		}
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EADDRINUSE) {
			if err = t.connectTCP(other, s); err == nil { // both ways make the same connection
				return nil
			}
		}
		if time.Now().After(end) {
			return err
		}
	}
}

// connectTCP connects client to a listening socket that is there for a moment
// only, at the server's address.
func (t *sockets) connectTCP(server, client *sock) error {
	l := &sock{at: t.doorstep(), pb: &imagepb.Socket{
		Domain: server.pb.Domain, Type: server.pb.Type, Protocol: server.pb.Protocol, Name: server.pb.Name}}
	lfd, err := t.newInet(l)
	if err != nil {
		return err
	}
	defer unix.Close(lfd)
	defer t.drop(l.at)
	if err := bindInet(lfd, l.pb); err != nil {
		return fmt.Errorf("bind %s: %w", addressOf(l.pb.Name), err)
	}
	if err := unix.Listen(lfd, 8); err != nil {
		return fmt.Errorf("listen at %s: %w", addressOf(l.pb.Name), err)
	}
	fd, err := t.newInet(client)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := bindInet(fd, client.pb); err != nil {
		return fmt.Errorf("bind %s: %w", addressOf(client.pb.Name), err)
	}
	if err := socket.Connect(fd, client.pb.PeerName); err != nil {
		return fmt.Errorf("connect %s to %s: %w", addressOf(client.pb.Name), addressOf(client.pb.PeerName), err)
	}
	return t.acceptFrom(l, server, client.pb.Name)
}

// doorstep is the number of all sockets that listen for a moment only.
func (t *sockets) doorstep() uint64 {
	if t.door == 0 {
		t.door = t.newSpare()
	}
	return t.door
}

// acceptFrom accepts the connection of a client; somebody else of this host may
// have been in between.
func (t *sockets) acceptFrom(l, server *sock, client []byte) error {
	for {
		c := t.r.seed.script()
		c.add("accept", unix.SYS_ACCEPT4, l.at, 0, 0, 0)
		c.put(server.at)
		if err := c.do(); err != nil {
			return err
		}
		fd, err := t.r.borrow(server.at)
		if err != nil {
			return err
		}
		name, err := socket.PeerName(fd)
		unix.Close(fd)
		if client == nil || err == nil && socket.SameAddress(name, client) {
			return nil
		}
	}
}

func (t *sockets) drop(at uint64) {
	c := t.r.seed.script()
	c.add("close", unix.SYS_CLOSE, at)
	_ = c.do()
}

// connectSpare connects a socket whose other end is closed, or outside the job,
// to a spare one, that will be closed: with its own address where this host has
// it.
func (t *sockets) connectSpare(s *sock) error {
	local, _ := socket.Address(s.pb.Name)
	err := t.connectSpareAt(s, local.Addr(), s.pb.Name)
	if err == nil {
		return nil
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if s.pb.Domain == unix.AF_INET6 && !local.Addr().Is4() {
		loopback = netip.IPv6Loopback()
	}
	return t.connectSpareAt(s, loopback, nil)
}

func (t *sockets) connectSpareAt(s *sock, at netip.Addr, own []byte) error {
	l := &sock{at: t.doorstep(), pb: &imagepb.Socket{Domain: s.pb.Domain, Type: s.pb.Type, Protocol: s.pb.Protocol}}
	lfd, err := t.newInet(l)
	if err != nil {
		return err
	}
	defer unix.Close(lfd)
	defer t.drop(l.at)
	if err := socket.Bind(lfd, socket.Sockaddr(netip.AddrPortFrom(at, 0), int(s.pb.Domain))); err != nil {
		return err
	}
	if err := unix.Listen(lfd, 1); err != nil {
		return err
	}
	to, err := socket.Name(lfd)
	if err != nil {
		return err
	}
	fd, err := t.newInet(s)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if own != nil {
		if err := socket.Bind(fd, own); err != nil {
			return err
		}
	}
	if err := socket.Connect(fd, to); err != nil {
		return err
	}
	s.far = t.newSpare()
	if own, err = socket.Name(fd); err != nil {
		return err
	}
	return t.acceptFrom(l, &sock{at: s.far}, own)
}

// makeInetNamed makes a socket that is not connected, and binds it.
func (t *sockets) makeInetNamed(s *sock) error {
	if !isInet(s.pb) || s.made {
		return nil
	}
	s.made = true
	fd, err := t.newInet(s)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := bindInet(fd, s.pb); err != nil && isUDP(s.pb) && s.pb.State == imagepb.Socket_CONNECTED {
		t.r.note("a UDP socket connected to %s had the address %s, which is not to be had here", addressOf(s.pb.PeerName), addressOf(s.pb.Name))
	} else if err != nil {
		return fmt.Errorf("bind %s: %w", addressOf(s.pb.Name), err)
	}
	if s.pb.State == imagepb.Socket_LISTENING {
		return unix.Listen(fd, int(s.pb.Backlog))
	}
	return nil
}

// connectInet connects what is connected without another end of the job: UDP
// sockets, those that wait to be accepted, those that were just connecting.
func (t *sockets) connectInet(s *sock) error {
	wants := isUDP(s.pb) && s.pb.State == imagepb.Socket_CONNECTED || isTCP(s.pb) && s.pb.State == imagepb.Socket_CONNECTING
	if isTCP(s.pb) {
		for _, w := range s.pb.Waiting {
			if err := t.connectFrom(t.byFile[w-1]); err != nil {
				return err
			}
		}
	}
	if !wants {
		return nil
	}
	return t.connectFrom(s)
}

func (t *sockets) connectFrom(s *sock) error {
	if s == nil {
		return errors.New("what waits to be accepted is no socket")
	}
	fd, err := t.r.borrow(s.at)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
		return err
	}
	if err := socket.Connect(fd, s.pb.PeerName); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.r.note("%s: connect to %s: %v", s, addressOf(s.pb.PeerName), err)
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return err
}

// fillInet sends again what waits in a socket.
func (t *sockets) fillInet(s *sock) error {
	if !isInet(s.pb) {
		return nil
	}
	if isTCP(s.pb) && s.pb.State == imagepb.Socket_RESET {
		return t.resetTCP(s)
	}
	for _, m := range s.pb.Queue {
		var err error
		if isTCP(s.pb) {
			err = t.sendTCP(s, m.Data)
		} else {
			err = t.sendUDP(s, m)
		}
		if err != nil {
			return fmt.Errorf("send %d bytes again: %w", len(m.Data), err)
		}
	}
	return nil
}

// resetTCP breaks the connection off: a close with SO_LINGER of no time does. The
// error that this leaves was reported already where the connection was broken before.
func (t *sockets) resetTCP(s *sock) error {
	fd, err := t.r.borrow(s.far)
	if err != nil {
		return err
	}
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
	if err != nil {
		return err
	}
	t.drop(s.far)
	if s.pb.Broken {
		return nil
	}
	if fd, err = t.r.borrow(s.at); err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR) // reads it and takes it away
	return err
}

// sendTCP sends a piece of a stream to s. SO_RCVLOWAT makes the receiver's buffer
// as large as the kernel allows (tcp_set_rcvlowat); setOptions sets it back.
func (t *sockets) sendTCP(s *sock, data []byte) error {
	to, err := t.r.borrow(s.at)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	_ = unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1<<29)
	from, err := t.r.borrow(s.far)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	for end := time.Now().Add(5 * time.Second); len(data) > 0; {
		n, err := socket.SendTo(from, data, nil)
		switch {
		case err == nil:
			data = data[n:]
		case !errors.Is(err, unix.EAGAIN):
			return err
		case time.Now().After(end):
			return fmt.Errorf("%d of them do not fit: raise net.ipv4.tcp_rmem and net.ipv4.tcp_wmem", len(data))
		default:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(from), Events: unix.POLLOUT}}, 100)
		}
	}
	return nil
}

// sendUDP sends a datagram to s, from where it came if this host has the address.
func (t *sockets) sendUDP(s *sock, m *imagepb.SocketMessage) error {
	from := &sock{pb: &imagepb.Socket{Domain: s.pb.Domain, Type: s.pb.Type, Protocol: s.pb.Protocol, Name: m.From}}
	for _, other := range t.list {
		if isUDP(other.pb) && (socket.SameAddress(other.pb.Name, m.From) || socket.Accepts(other.pb.Name, m.From)) {
			from = other
		}
	}
	if from.at == 0 {
		from.at = t.newSpare()
		fd, err := t.newInet(from)
		if err != nil {
			return err
		}
		err = bindInet(fd, from.pb)
		unix.Close(fd)
		if err != nil {
			t.r.note("%s: a datagram from %s is lost", s, addressOf(m.From))
			return nil
		}
	}
	fd, err := t.r.borrow(from.at)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to, _ := socket.Address(s.pb.Name)
	if sender, ok := socket.Address(m.From); ok && to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(sender.Addr(), to.Port())
	}
	_, err = socket.SendTo(fd, m.Data, socket.Sockaddr(to, int(from.pb.Domain)))
	return err
}

func addressOf(name []byte) string {
	a, ok := socket.Address(name)
	if !ok {
		return "no address"
	}
	return a.String()
}

// checkInetName tries whether this host has the address, and whether it is free.
func checkInetName(s *imagepb.Socket) string {
	if !hasPort(s.Name) || s.State == imagepb.Socket_RESET || s.State == imagepb.Socket_CONNECTED && s.Peer == 0 {
		return ""
	}
	kind, await := "UDP", func(_ []byte, try func() error) error { return try() }
	if isTCP(s) {
		kind, await = "TCP", awaitPort
	}
	err := await(s.Name, func() error { return tryInetName(s) })
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Sprintf("%s port %s is in use on this host: end the program that has it, or resume on another host", kind, addressOf(s.Name))
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("%s is not an address of this host: the job has a %s socket there; resume on the host that has it", addressOf(s.Name), kind)
	case err != nil:
		return fmt.Sprintf("%s port %s: %v", kind, addressOf(s.Name), err)
	}
	return ""
}

func tryInetName(s *imagepb.Socket) error {
	fd, err := unix.Socket(int(s.Domain), int(s.Type)|unix.SOCK_CLOEXEC, int(s.Protocol))
	if err != nil {
		return fmt.Errorf("a socket: %w", err)
	}
	defer unix.Close(fd)
	for _, o := range s.Options {
		switch {
		case o.Level == unix.SOL_SOCKET && (o.Name == unix.SO_REUSEPORT || o.Name == unix.SO_REUSEADDR),
			o.Level == unix.IPPROTO_IPV6 && o.Name == unix.IPV6_V6ONLY && len(s.PeerName) == 0,
			o.Level == unix.IPPROTO_IP && o.Name == unix.IP_FREEBIND:
			_ = socket.SetOption(fd, int(o.Level), int(o.Name), o.Value)
		}
	}
	if isTCP(s) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	err = socket.Bind(fd, s.Name)
	if err == nil && s.State == imagepb.Socket_LISTENING {
		err = unix.Listen(fd, 1)
	}
	return err
}
