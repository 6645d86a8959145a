// SPDX-License-Identifier: Apache-2.0

package pty

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Queues is what waits in a pair.
type Queues struct {
	Lines   [][]byte // input by whole lines (ICANON); one without its end was ended by VEOF
	Partial []byte   // the rest of the input: a line that is being typed, or, without ICANON, all
	Output  []byte   // what the master has still to read
}

// quiet is how long nothing must come before a queue is believed to be empty:
// from one end of a terminal to the other bytes go by a thread of the kernel.
const quiet = 3 // ms

// Peek takes out what waits, and puts it back. slave is a descriptor of our own,
// which does not block.
func Peek(master, slave int, s State) (q Queues, err error) {
	err = quietly(master, s, func() error {
		if err := q.takeInput(master, slave, s.Termios); err != nil {
			return err
		}
		if q.Output, err = takeOutput(master, quiet); err != nil {
			return err
		}
		return q.put(master, slave, s.Termios)
	})
	return q, err
}

// Fill puts into a pair what waited in another.
func Fill(master, slave int, s State, q Queues) error {
	return quietly(master, s, func() error { return q.put(master, slave, s.Termios) })
}

// quietly does something while the master is out of packet mode, in which it
// would be told of every change, and does not block.
func quietly(master int, s State, do func() error) error {
	flags, err := unix.FcntlInt(uintptr(master), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(master), unix.F_SETFL, flags|unix.O_NONBLOCK); err != nil {
		return err
	}
	defer func() { _, _ = unix.FcntlInt(uintptr(master), unix.F_SETFL, flags) }()
	if s.Packet {
		if err := unix.IoctlSetPointerInt(master, unix.TIOCPKT, 0); err != nil {
			return err
		}
		defer func() { _ = unix.IoctlSetPointerInt(master, unix.TIOCPKT, 1) }()
	}
	err = do()
	if e := unix.IoctlSetTermios(master, unix.TCSETS2, &s.Termios); err == nil && e != nil {
		err = fmt.Errorf("set its modes again: %w", e)
	}
	return err
}

func (q *Queues) takeInput(master, slave int, t unix.Termios) error {
	buf := make([]byte, 4096)
	if _, err := poll(slave, unix.POLLIN, quiet); err != nil {
		return err
	}
	if t.Lflag&unix.ICANON != 0 {
		for {
			n, err := unix.Read(slave, buf)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return fmt.Errorf("read its input: %w", err)
			}
			q.Lines = append(q.Lines, bytes.Clone(buf[:n]))
			if len(q.Lines) > 4096 {
				return errors.New("its input has no end")
			}
		}
		// The line that is being typed can be read without ICANON only. Nothing is
		// left when that is set again, so nothing changes its place.
	}
	raw := t
	raw.Lflag &^= unix.ICANON
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(master, unix.TCSETS2, &raw); err != nil {
		return fmt.Errorf("read its input: %w", err)
	}
	for {
		n, err := unix.Read(slave, buf)
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read its input: %w", err)
		}
		q.Partial = append(q.Partial, buf[:n]...)
	}
}

// takeOutput reads until nothing more has come for a while.
func takeOutput(master, ms int) ([]byte, error) {
	var out []byte
	buf := make([]byte, 4096)
	for {
		events, err := poll(master, unix.POLLIN, ms)
		if err != nil {
			return out, err
		}
		if events&unix.POLLIN == 0 {
			return out, nil
		}
		n, err := unix.Read(master, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return out, fmt.Errorf("read its output: %w", err)
		default:
			out = append(out, buf[:n]...)
		}
	}
}

// put types the input anew and writes the output anew, with modes that change
// nothing of either.
func (q *Queues) put(master, slave int, t unix.Termios) error {
	if err := q.putInput(master, t); err != nil {
		return fmt.Errorf("put its input back: %w", err)
	}
	if len(q.Output) == 0 {
		return nil
	}
	plain := t
	plain.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(master, unix.TCSETS2, &plain); err != nil {
		return err
	}
	if err := writeAll(slave, q.Output); err != nil {
		return fmt.Errorf("put its output back: %w", err)
	}
	return nil
}

// putInput types with echo: what has come back has arrived. With or without
// ICANON must be as it was, since a change of that ends the line.
func (q *Queues) putInput(master int, t unix.Termios) error {
	if len(q.Lines) == 0 && len(q.Partial) == 0 {
		return unix.IoctlSetTermios(master, unix.TCSETS2, &t)
	}
	eof, err := q.unused()
	if err != nil {
		return err
	}
	plain := t
	plain.Iflag, plain.Oflag = 0, 0
	plain.Lflag = t.Lflag&unix.ICANON | unix.ECHO
	plain.Cc[unix.VERASE], plain.Cc[unix.VKILL], plain.Cc[unix.VEOF] = 0, 0, eof
	if err := unix.IoctlSetTermios(master, unix.TCSETS2, &plain); err != nil {
		return err
	}
	for _, line := range q.Lines {
		if err := typeIn(master, line); err != nil {
			return err
		}
		if end := lastOf(line); end != '\n' && (end != t.Cc[unix.VEOL] || end == 0) {
			if err := writeAll(master, []byte{eof}); err != nil {
				return err
			}
			time.Sleep(quiet * time.Millisecond) // it has no echo
		}
	}
	return typeIn(master, q.Partial)
}

func lastOf(line []byte) byte {
	if len(line) == 0 {
		return 0
	}
	return line[len(line)-1]
}

// unused is a byte that the lines do not have, to end one of them.
func (q *Queues) unused() (byte, error) {
	if len(q.Lines) == 0 {
		return 0, nil
	}
	for c := 4; c < 256; c++ {
		used := bytes.IndexByte(q.Partial, byte(c)) >= 0 || c == '\n'
		for _, l := range q.Lines {
			used = used || bytes.IndexByte(l, byte(c)) >= 0
		}
		if !used {
			return byte(c), nil
		}
	}
	return 0, errors.New("its lines have bytes of all kinds")
}

func typeIn(master int, b []byte) error {
	const most = 256
	for len(b) > 0 {
		n := min(len(b), most)
		if err := writeAll(master, b[:n]); err != nil {
			return err
		}
		if err := await(master, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

const patience = 2 * time.Second

// await reads an echo.
func await(master int, want []byte) error {
	buf := make([]byte, len(want))
	for end := time.Now().Add(patience); len(want) > 0; {
		if _, err := poll(master, unix.POLLIN, 20); err != nil {
			return err
		}
		n, err := unix.Read(master, buf[:len(want)])
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().After(end):
			return errors.New("it does not arrive")
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return err
		case !bytes.Equal(buf[:n], want[:n]):
			return fmt.Errorf("%q arrives as %q", want[:n], buf[:n])
		default:
			want = want[n:]
		}
	}
	return nil
}

func writeAll(fd int, b []byte) error {
	for end := time.Now().Add(patience); len(b) > 0; {
		n, err := unix.Write(fd, b)
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().After(end):
			return errors.New("there is no room")
		case errors.Is(err, unix.EAGAIN):
			if _, err := poll(fd, unix.POLLOUT, 20); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			b = b[n:]
		}
	}
	return nil
}
