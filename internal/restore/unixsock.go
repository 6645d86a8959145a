// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

// makeUnixConnection makes both ends of a connection, at the first of them. An
// end that is closed or outside the job is a spare one for the time being.
func (t *sockets) makeUnixConnection(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || s.made || !t.madeAsPair(s) {
		return nil
	}
	other := t.peer(s)
	if other == nil {
		other = &sock{at: t.newSpare(), spare: true, pb: &imagepb.Socket{Type: s.pb.Type, Name: s.pb.PeerName, PeerPid: s.pb.PeerPid}}
	}
	s.made, other.made = true, true
	s.far, other.far = other.at, s.at
	server, client := s, other
	if len(server.pb.Name) == 0 {
		server, client = client, server
	}
	byAccept := isAbstract(s.pb.Name) || isAbstract(other.pb.Name) || s.pb.PeerPid != other.pb.PeerPid
	if byAccept && len(server.pb.Name) > 0 && s.pb.Type != unix.SOCK_DGRAM {
		return t.connectAccept(server, client)
	}
	maker, err := t.as(s.pb.PeerPid)
	if err != nil {
		return err
	}
	c := maker.script()
	c.add("socketpair", unix.SYS_SOCKETPAIR, unix.AF_UNIX, uint64(s.pb.Type), 0, c.words(0))
	c.add("dup3", unix.SYS_DUP3, first, s.at, 0)
	c.add("dup3", unix.SYS_DUP3, first+1, other.at, 0)
	c.add("close_range", unix.SYS_CLOSE_RANGE, first, first+1, 0)
	if err := c.do(); err != nil {
		return err
	}
	if err := t.bindScratch(s.at, s.pb.Name); err != nil {
		return err
	}
	return t.bindScratch(other.at, other.pb.Name)
}

// madeAsPair says that a socket is one end of a connection that is made at once.
// Datagram sockets are, where nobody can connect to the other end by its name.
func (t *sockets) madeAsPair(s *sock) bool {
	switch s.pb.State {
	case imagepb.Socket_CONNECTED:
		return !t.waits(s) && (s.pb.Type != unix.SOCK_DGRAM || len(s.pb.PeerName) == 0)
	case imagepb.Socket_RESET:
		return s.pb.Type != unix.SOCK_DGRAM
	}
	return false
}

// waits says that the socket's connection has not been accepted yet.
func (t *sockets) waits(s *sock) bool {
	for _, l := range t.list {
		for _, w := range l.pb.Waiting {
			if w == s.file+1 {
				return true
			}
		}
	}
	return false
}

// connectAccept makes a connection as programs do. Who calls listen is what the
// client sees by SO_PEERCRED, who calls connect what the server sees.
func (t *sockets) connectAccept(server, client *sock) error {
	l := &sock{at: t.newSpare(), pb: &imagepb.Socket{Type: server.pb.Type, Name: server.pb.Name, PeerPid: client.pb.PeerPid, Backlog: 1}}
	if err := t.newUnix(l); err != nil {
		return err
	}
	if err := t.bindScratch(l.at, l.pb.Name); err != nil {
		return err
	}
	if err := t.listenAs(l); err != nil {
		return err
	}
	if err := t.newUnix(client); err != nil {
		return err
	}
	if err := t.connectUnix(client, l, server.pb.PeerPid); err != nil {
		return err
	}
	c := t.r.seed.script()
	c.add("accept", unix.SYS_ACCEPT4, l.at, 0, 0, 0)
	c.put(server.at)
	c.add("close", unix.SYS_CLOSE, l.at)
	if err := c.do(); err != nil {
		return err
	}
	return t.bindScratch(client.at, client.pb.Name)
}

func (t *sockets) newUnix(s *sock) error {
	c := t.r.seed.script()
	c.add("socket", unix.SYS_SOCKET, unix.AF_UNIX, uint64(s.pb.Type), 0)
	c.put(s.at)
	return c.do()
}

// connectUnix connects s to a socket that has a name, as the process pid.
func (t *sockets) connectUnix(s, to *sock, pid int32) error {
	h, err := t.as(pid)
	if err != nil {
		return err
	}
	c := h.script()
	addr, n := t.reach(c, to)
	c.add("connect", unix.SYS_CONNECT, s.at, addr, n)
	c.add("chdir", unix.SYS_CHDIR, c.string("/")) // it may be one of the job, see setProcess
	return c.do()
}

// reach gives the address by which a helper gets at a socket: an abstract name,
// or the name of the file in the directory where it is, which is made the working
// directory, because an address has room for 108 bytes only.
func (t *sockets) reach(c *script, to *sock) (addr, n uint64) {
	if isAbstract(to.pb.Name) {
		return c.bytes(to.pb.Name), uint64(len(to.pb.Name))
	}
	at := to.pb.Path
	if at == "" {
		at = t.scratchPath(unixPath(to.pb.Name))
	}
	c.add("chdir", unix.SYS_CHDIR, c.string(filepath.Dir(at)))
	name := unixName(filepath.Base(at))
	return c.bytes(name), uint64(len(name))
}

func unixName(path string) []byte {
	return append(append(binary.LittleEndian.AppendUint16(nil, unix.AF_UNIX), path...), 0)
}

// bindScratch gives a socket its name. A path is made in the scratch directory:
// it is a name that nobody finds this socket by.
func (t *sockets) bindScratch(at uint64, name []byte) error {
	if len(name) == 0 {
		return nil
	}
	h, err := t.as(binder)
	if err != nil {
		return err
	}
	if path := unixPath(name); path != "" {
		file := t.scratchPath(path)
		if ids.Shim() && (filepath.IsAbs(path) || !strings.HasPrefix(file, t.scratch)) {
			return t.bindInPlace(h, at, path)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return bind(h, at, name)
}

func bind(h *task, at uint64, name []byte) error {
	c := h.script()
	c.add("bind", unix.SYS_BIND, at, c.bytes(name), uint64(len(name)))
	return c.do()
}

// makeUnixNamed makes a socket that is not connected, or can be connected to its
// peer by name, and binds it.
func (t *sockets) makeUnixNamed(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || s.made {
		return nil
	}
	s.made = true
	if err := t.newUnix(s); err != nil {
		return err
	}
	if s.pb.Path == "" {
		return t.bindScratch(s.at, s.pb.Name)
	}
	// What is there was found to be stale, see checkSocketFile.
	if err := os.Remove(s.pb.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	path := unixPath(s.pb.Name)
	dir := "/"
	if !filepath.IsAbs(path) {
		dir = s.pb.Path[:len(s.pb.Path)-len(path)]
	}
	h, err := t.as(0)
	if err != nil {
		return err
	}
	c := h.script()
	c.add("chdir "+dir, unix.SYS_CHDIR, c.string(dir))
	if err := c.do(); err != nil {
		return err
	}
	if err := bind(h, s.at, s.pb.Name); err != nil {
		return err
	}
	return os.Chmod(s.pb.Path, os.FileMode(s.pb.Mode))
}

func (t *sockets) listenUnix(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || s.pb.State != imagepb.Socket_LISTENING {
		return nil
	}
	return t.listenAs(s)
}

func (t *sockets) listenAs(s *sock) error {
	h, err := t.as(s.pb.PeerPid)
	if err != nil {
		return err
	}
	c := h.script()
	c.add("listen", unix.SYS_LISTEN, s.at, uint64(s.pb.Backlog))
	return c.do()
}

// connectWaiting connects those that wait to be accepted, in their order.
func (t *sockets) connectWaiting(l *sock) error {
	if l.pb.Domain != unix.AF_UNIX {
		return nil
	}
	for _, w := range l.pb.Waiting {
		client := t.byFile[w-1]
		if client == nil {
			return fmt.Errorf("file %d, which waits to be accepted, is no socket", w-1)
		}
		if err := t.connectUnix(client, l, t.holder(client.file)); err != nil {
			return err
		}
	}
	return nil
}

// holder is a process that has the file.
func (t *sockets) holder(file uint32) int32 {
	for _, p := range t.r.meta.Processes {
		for _, fd := range p.Fds {
			if fd.OpenFile == file {
				return p.Pid
			}
		}
	}
	return 0
}

// connectDatagram connects a datagram socket to one that has a name; where that
// is closed or cannot be found, to one that is closed then.
func (t *sockets) connectDatagram(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || s.pb.Type != unix.SOCK_DGRAM || s.far != 0 || s.pb.State != imagepb.Socket_CONNECTED && s.pb.State != imagepb.Socket_RESET {
		return nil
	}
	if other := t.peer(s); other != nil {
		return t.connectUnix(s, other, 0)
	}
	if s.pb.State == imagepb.Socket_RESET {
		fd, err := t.r.borrow(s.at)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if socket.Connect(fd, s.pb.PeerName) == nil {
			return nil
		}
	}
	gone := &sock{at: t.newSpare(), pb: &imagepb.Socket{Type: s.pb.Type, Name: s.pb.PeerName}}
	if err := t.newUnix(gone); err != nil {
		return err
	}
	if err := t.bindScratch(gone.at, gone.pb.Name); err != nil {
		t.r.note("%s: what it was connected to is not here", s)
		return nil
	}
	return t.connectUnix(s, gone, 0)
}

// breakOff makes the next call on the socket report ECONNRESET: what the end that
// is closed next has not read does that (unix(7)).
func (t *sockets) breakOff(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || s.far == 0 || s.pb.State != imagepb.Socket_RESET && !s.pb.Broken || t.peer(s) != nil {
		return nil
	}
	fd, err := t.r.borrow(s.at)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = socket.SendTo(fd, []byte{0}, nil)
	return err
}

// fillUnix sends again what waits in a socket.
func (t *sockets) fillUnix(s *sock) error {
	if s.pb.Domain != unix.AF_UNIX || len(s.pb.Queue) == 0 || s.pb.State == imagepb.Socket_RESET && s.pb.Type != unix.SOCK_DGRAM {
		return nil
	}
	for _, m := range s.pb.Queue {
		from, err := t.sender(s, m)
		if err != nil {
			return err
		}
		if err := t.send(from, s, m); err != nil {
			return fmt.Errorf("send %d bytes again: %w", len(m.Data), err)
		}
	}
	return nil
}

// sender is where a message to s comes from: the other end, or a socket with the
// name that the message has.
func (t *sockets) sender(s *sock, m *imagepb.SocketMessage) (uint64, error) {
	if s.far != 0 {
		return s.far, t.raiseSndbuf(s.far)
	}
	if other := t.peer(s); other != nil && bytes.Equal(other.pb.Name, m.From) {
		return other.at, nil
	}
	for _, other := range t.list {
		if other.pb.Domain == unix.AF_UNIX && other.pb.Type == unix.SOCK_DGRAM && len(m.From) > 0 && bytes.Equal(other.pb.Name, m.From) {
			return other.at, nil
		}
	}
	from := &sock{at: t.newSpare(), pb: &imagepb.Socket{Type: s.pb.Type, Name: m.From}}
	if err := t.newUnix(from); err != nil {
		return 0, err
	}
	return from.at, t.bindScratch(from.at, m.From)
}

// raiseSndbuf makes room for what was sent when there was more; setOptions sets
// what is asked for.
func (t *sockets) raiseSndbuf(at uint64) error {
	fd, err := t.r.borrow(at)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<29)
}

// send sends a message to s in the name of the process that had sent it.
func (t *sockets) send(from uint64, s *sock, m *imagepb.SocketMessage) error {
	h, pid, err := t.speaker(m.Pid)
	if err != nil {
		return err
	}
	if len(m.Data) > 0 {
		if err := writeMemory(h, t.buffer, m.Data); err != nil {
			return err
		}
	}
	c := h.script()
	var addr, n uint64
	if s.far == 0 {
		addr, n = t.reach(c, s)
	}
	control := t.control(m, pid)
	iov := c.words(t.buffer, uint64(len(m.Data)))
	at := uint64(0)
	if len(control) > 0 {
		at = c.bytes(control)
	}
	// struct msghdr: name, its length, iov, iovlen, control, its length, flags
	msg := c.words(addr, n, iov, 1, at, uint64(len(control)), 0)
	sent := c.add("sendmsg", unix.SYS_SENDMSG, from, msg, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if err := c.do(); err != nil {
		return err
	}
	if sent.Result != int64(len(m.Data)) {
		return fmt.Errorf("only %d of them fit into its queue", sent.Result)
	}
	return nil
}

// speaker is who sends a message in the name of a process, and the number that it
// is sent with. Who may do anything in the namespace may name any process that
// exists (unix(7)); without namespaces one can name itself only.
func (t *sockets) speaker(pid int32) (*task, int32, error) {
	if pid > 0 && ids.Shim() {
		h := t.helpers[pid]
		if h == nil {
			var err error
			if h, err = t.newHelper(pid); err != nil {
				return nil, 0, err
			}
			t.helpers[pid] = h
		}
		return h.task, int32(h.host), nil
	}
	if !t.exists(pid) {
		if _, err := t.as(pid); err != nil {
			return nil, 0, err
		}
	}
	h, err := t.as(0)
	return h, pid, err
}

func (t *sockets) exists(pid int32) bool {
	return slices.ContainsFunc(t.r.procs, func(p *proc) bool { return p.node.Pid == int(pid) })
}

// control makes the ancillary data of a message (unix(7)).
func (t *sockets) control(m *imagepb.SocketMessage, pid int32) []byte {
	var b []byte
	if len(m.OpenFiles) > 0 {
		fds := make([]int, len(m.OpenFiles))
		for i, file := range m.OpenFiles {
			fds[i] = int(t.r.stageFile(file))
		}
		b = append(b, unix.UnixRights(fds...)...)
	}
	if pid > 0 {
		b = append(b, unix.UnixCredentials(&unix.Ucred{Pid: pid, Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid())})...)
	}
	return b
}

func isAbstract(name []byte) bool { return len(name) > 2 && name[2] == 0 }

// unixPath is the path in a struct sockaddr_un, empty for an abstract name.
func unixPath(name []byte) string {
	if len(name) < 3 || binary.LittleEndian.Uint16(name) != unix.AF_UNIX || name[2] == 0 {
		return ""
	}
	path, _, _ := bytes.Cut(name[2:], []byte{0})
	return string(path)
}
