// SPDX-License-Identifier: Apache-2.0

// Package pty reads and sets the state of pseudo-terminals (pty(7)) from outside
// of the programs that use them: through a descriptor of the master, by which
// most of the slave's state can be asked as well, and a slave that it opens for
// itself.
//
// What waits in a terminal can only be read, not looked at. So it is taken out
// and put back, while those who use the terminal stand still.
package pty

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// State is what there is to a pair of terminals besides what waits in them.
type State struct {
	Number     int
	Termios    unix.Termios
	Window     unix.Winsize
	Locked     bool
	Packet     bool
	Exclusive  bool
	Opened     bool // the slave has been open once
	Session    int  // pid of its leader; 0 if it is nobody's controlling terminal
	Foreground int
}

// ErrPacketStatus says that the master has still to be told of something by
// packet mode (ioctl_tty(2), TIOCPKT), which cannot be read without taking it.
var ErrPacketStatus = errors.New("a change of its state waits to be read by its master (TIOCPKT): try again")

// Read asks for the state of the pair. slaveOpen says whether anybody has the
// slave open.
func Read(master int, slaveOpen bool) (s State, err error) {
	number := 0
	for _, ask := range []struct {
		request uint
		to      *bool
		number  *int
	}{{unix.TIOCGPTN, nil, &number}, {unix.TIOCGPTLCK, &s.Locked, nil}, {unix.TIOCGPKT, &s.Packet, nil}} {
		v, err := unix.IoctlGetInt(master, ask.request)
		if err != nil {
			return s, fmt.Errorf("ioctl %#x: %w", ask.request, err)
		}
		v &= 0xffffffff
		if ask.to != nil {
			*ask.to = v != 0
		} else {
			*ask.number = v
		}
	}
	s.Number = number
	t, err := unix.IoctlGetTermios(master, unix.TCGETS2)
	if err != nil {
		return s, fmt.Errorf("read its modes: %w", err)
	}
	w, err := unix.IoctlGetWinsize(master, unix.TIOCGWINSZ)
	if err != nil {
		return s, fmt.Errorf("read its size: %w", err)
	}
	s.Termios, s.Window = *t, *w
	if s.Session, err = optional(unix.IoctlGetInt(master, unix.TIOCGSID)); err != nil {
		return s, fmt.Errorf("ask for its session: %w", err)
	}
	if s.Foreground, err = optional(unix.IoctlGetInt(master, unix.TIOCGPGRP)); err != nil {
		return s, fmt.Errorf("ask for its foreground process group: %w", err)
	}
	events, err := poll(master, unix.POLLIN|unix.POLLPRI, 0)
	if err != nil {
		return s, err
	}
	// Without an opened slave the master hangs up only after there was one.
	s.Opened = slaveOpen || events&unix.POLLHUP != 0
	if s.Packet && events&unix.POLLPRI != 0 {
		return s, ErrPacketStatus
	}
	return s, nil
}

// optional takes ENOTTY for "none".
func optional(v int, err error) (int, error) {
	if errors.Is(err, unix.ENOTTY) {
		return 0, nil
	}
	return int(int32(v)), err
}

// Set gives a fresh pair the state, except for what concerns sessions. What
// forbids things comes last, so it is best called when all is open.
func Set(master, slave int, s State) error {
	if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &s.Window); err != nil {
		return fmt.Errorf("set its size: %w", err)
	}
	if err := unix.IoctlSetTermios(master, unix.TCSETS2, &s.Termios); err != nil {
		return fmt.Errorf("set its modes: %w", err)
	}
	if s.Exclusive && slave >= 0 {
		if err := unix.IoctlSetInt(slave, unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("make it exclusive: %w", err)
		}
	}
	if s.Packet {
		if err := unix.IoctlSetPointerInt(master, unix.TIOCPKT, 1); err != nil {
			return fmt.Errorf("set packet mode: %w", err)
		}
	}
	lock := 0
	if s.Locked {
		lock = 1
	}
	return unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, lock)
}

func poll(fd int, events int16, ms int) (int16, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		_, err := unix.Poll(p, ms)
		if err == nil {
			return p[0].Revents, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("poll: %w", err)
		}
	}
}

// OpenPeer opens the slave for ourselves (TIOCGPTPEER), whatever its lock says.
func OpenPeer(master int, locked bool) (int, error) {
	if locked {
		if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
			return -1, err
		}
		defer func() { _ = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 1) }()
	}
	return openPeer(master, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC)
}
