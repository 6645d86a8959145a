// SPDX-License-Identifier: Apache-2.0

package pty

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is a master, a slave of the program's, and one of ours.
func pair(t *testing.T) (master, slave, ours int) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	var fds [2]int
	for i := range fds {
		if fds[i], err = OpenPeer(fd, false); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fds[i]) })
	}
	return fd, fds[0], fds[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 4096)
	for range 500 {
		n, err := unix.Read(fd, buf)
		if err == nil {
			return string(buf[:n])
		}
		if err != unix.EAGAIN {
			return err.Error()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return "nothing"
}

// TestPeekCanonical: whole lines, one ended by ^D, an empty one, and one that is
// being typed, edited by the user afterwards; and output with its echo.
func TestPeekCanonical(t *testing.T) {
	master, slave, ours := pair(t)
	must(t, writeAll(slave, []byte("out\n")))
	must(t, writeAll(master, []byte("one\ntwo\x04\x04half\x16\x04x")))
	time.Sleep(20 * time.Millisecond)
	s, err := Read(master, true)
	must(t, err)
	for range 2 { // it stays as it was
		q, err := Peek(master, ours, s)
		must(t, err)
		want := [][]byte{[]byte("one\n"), []byte("two"), {}}
		if !slices.EqualFunc(q.Lines, want, bytes.Equal) || string(q.Partial) != "half\x04x" {
			t.Errorf("%q and %q", q.Lines, q.Partial)
		}
		if !strings.HasPrefix(string(q.Output), "out\r\none\r\ntwohalf") {
			t.Errorf("output %q", q.Output)
		}
	}
	must(t, writeAll(master, []byte("\x7f!\n")))
	for _, want := range []string{"one\n", "two", "", "half\x04!\n"} {
		if got := read(t, slave); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	after, err := Read(master, true)
	must(t, err)
	if after != s {
		t.Errorf("the state was %+v and is %+v", s, after)
	}
}

// TestPeekRaw: bytes of every kind both ways, in packet mode.
func TestPeekRaw(t *testing.T) {
	master, slave, ours := pair(t)
	s, err := Read(master, true)
	must(t, err)
	s.Termios.Iflag, s.Termios.Oflag, s.Termios.Lflag = 0, 0, 0
	s.Packet, s.Window = true, unix.Winsize{Row: 33, Col: 77}
	must(t, Set(master, ours, s))
	all := make([]byte, 1024)
	for i := range all {
		all[i] = byte(i)
	}
	must(t, writeAll(master, all))
	must(t, writeAll(slave, append(all, all...)))
	time.Sleep(20 * time.Millisecond)
	q, err := Peek(master, ours, s)
	must(t, err)
	if len(q.Lines) > 0 || !bytes.Equal(q.Partial, all) || !bytes.Equal(q.Output, append(all, all...)) {
		t.Fatalf("%d lines, %d and %d bytes", len(q.Lines), len(q.Partial), len(q.Output))
	}
	if got := read(t, slave); got != string(all) {
		t.Errorf("%d bytes of input", len(got))
	}
	if got := read(t, master); got != "\x00"+string(append(all, all...)) {
		t.Errorf("%d bytes of output", len(got))
	}
	after, err := Read(master, true)
	must(t, err)
	if after != s {
		t.Errorf("the state was %+v and is %+v", s, after)
	}
}

// TestMuch: more than fits into the buffer of the line discipline.
func TestMuch(t *testing.T) {
	master, slave, ours := pair(t)
	text := []byte(strings.Repeat("0123456789abcde\n", 600)) // 9600 bytes, where one buffer has 4096
	s, err := Read(master, true)
	must(t, err)
	s.Termios.Oflag &^= unix.OPOST
	must(t, Set(master, ours, s))
	must(t, writeAll(slave, text))
	q, err := Peek(master, ours, s)
	must(t, err)
	if !bytes.Equal(q.Output, text) {
		t.Fatalf("%d bytes", len(q.Output))
	}
	got, err := func() ([]byte, error) {
		defer unix.FcntlInt(uintptr(master), unix.F_SETFL, 0)
		if _, err := unix.FcntlInt(uintptr(master), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
			return nil, err
		}
		return takeOutput(master, 50)
	}()
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestPacketStatus: what packet mode has to tell is not taken.
func TestPacketStatus(t *testing.T) {
	master, slave, _ := pair(t)
	must(t, unix.IoctlSetPointerInt(master, unix.TIOCPKT, 1))
	must(t, unix.IoctlSetInt(slave, unix.TCFLSH, unix.TCIFLUSH))
	if _, err := Read(master, true); err != ErrPacketStatus {
		t.Errorf("%v", err)
	}
	buf := make([]byte, 10)
	if n, err := unix.Read(master, buf); n != 1 || err != nil || buf[0] == 0 {
		t.Errorf("%d %v %v", n, err, buf[:1])
	}
}
