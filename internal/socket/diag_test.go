// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func inode(t *testing.T, fd int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

func TestUnix(t *testing.T) {
	c, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	a, err := c.Unix(inode(t, pair[0]))
	if err != nil || !a.Connected || a.PeerIno != inode(t, pair[1]) || a.Type != unix.SOCK_SEQPACKET {
		t.Errorf("an end of a pair is %+v, %v", a, err)
	}
	unix.Close(pair[1])
	if a, err = c.Unix(inode(t, pair[0])); err != nil || !a.Connected || a.PeerIno != 0 || a.Shutdown != 3 {
		t.Errorf("the end that is left is %+v, %v", a, err)
	}
}

func TestListener(t *testing.T) {
	c, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	path := filepath.Join(t.TempDir(), "s")
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(l, 7); err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	if err := unix.Connect(client, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	s, err := c.Unix(inode(t, l))
	if err != nil || s.State != Listening || s.Backlog != 7 || s.FileIno != uint32(st.Ino) ||
		len(s.Waiting) != 1 || s.Waiting[0] != inode(t, client) {
		t.Errorf("the listener is %+v, %v", s, err)
	}
	if s, err := c.Unix(inode(t, client)); err != nil || !s.Connected || s.PeerIno != 0 || s.Shutdown != 0 {
		t.Errorf("who waits is %+v, %v", s, err)
	}
}

func TestNotUnix(t *testing.T) {
	c, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if s, err := c.Unix(inode(t, int(fd))); !errors.Is(err, ErrNotUnix) {
			t.Errorf("a TCP socket is %+v, %v", s, err)
		}
	})
	for _, b := range [][]byte{nil, make([]byte, 40), append(make([]byte, 4), 20, 0)} {
		if _, err := parse(b); err == nil {
			t.Errorf("parse(%x) gives no error", b)
		}
	}
}
