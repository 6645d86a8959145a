// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// FdInfo is /proc/PID/fdinfo/N, see proc_pid_fdinfo(5). What does not apply to
// the kind of file is zero.
type FdInfo struct {
	Pos   int64
	Flags uint32 // O_*, with O_CLOEXEC of this descriptor
	MntID int
	Ino   uint64 // Linux 5.14 and later

	Eventfd          bool
	EventfdCount     uint64
	EventfdSemaphore bool
	Epoll            []EpollItem
	Signalfd         bool
	Sigmask          uint64
	Timerfd          *Timerfd
	Locks            []Lock
	Inotify          []InotifyWatch
	Fanotify         bool
	Pid              int // of a pidfd, -1 when the process is gone
	ScmFds           int // descriptors in flight in a unix socket
	// Unknown has the lines of kinds that have no field here, for a caller
	// that must refuse what it does not know.
	Unknown []string
}

// EpollItem is one entry of an epoll's interest list.
type EpollItem struct {
	TFD    int // the number under which it was added
	Events uint32
	Data   uint64
	Pos    int64
	Ino    uint64
	Sdev   uint64 // as the kernel prints it, not as unix.Mkdev makes it
}

// InotifyWatch is one watch of an inotify instance.
type InotifyWatch struct {
	Wd   int
	Ino  uint64
	Sdev uint64 // as the kernel prints it, of the superblock
	Mask uint32 // IN_*; before Linux 5.18 without IN_EXCL_UNLINK and IN_ONESHOT
}

// Timerfd is the state of a timerfd.
type Timerfd struct {
	Clockid      int
	Ticks        uint64 // expirations not yet read
	SettimeFlags uint32
	ValueNs      int64 // until the next expiration
	IntervalNs   int64
}

// Lock is one lock held through the descriptor.
type Lock struct {
	Type      string // FLOCK, POSIX, OFDLCK, LEASE, DELEG
	Mode      string // ADVISORY, ACTIVE, BREAKING, …
	Exclusive bool
	Pid       int // -1 for an OFDLCK
	Dev, Ino  uint64
	Start     int64
	End       int64 // inclusive; math.MaxInt64 is the end of the file
	Blocked   bool  // waiting, not held
}

// ParseFdInfo reads /proc/PID/fdinfo/N.
func ParseFdInfo(r io.Reader) (FdInfo, error) {
	p := fdParser{}
	err := eachLine(r, p.line)
	if err == nil && !(p.pos && p.flags) {
		err = fmt.Errorf("no pos and flags: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return FdInfo{}, fmt.Errorf("parse fdinfo: %w", err)
	}
	return p.FdInfo, nil
}

// ReadFdInfo reads what the kernel tells of one descriptor of a process.
func ReadFdInfo(pid, fd int) (FdInfo, error) {
	return parseFile(taskPath(pid, 0, "fdinfo/"+strconv.Itoa(fd)), ParseFdInfo)
}

type fdParser struct {
	FdInfo
	pos, flags bool
}

var errFdInfo = errors.New("not a line of fdinfo")

func (p *fdParser) line(line []byte) error {
	if watch, ok := bytes.CutPrefix(line, []byte("inotify ")); ok {
		f := fields{rest: watch}
		p.Inotify = append(p.Inotify, f.inotify())
		if f.err != nil {
			return fmt.Errorf("%w: %.80q: %w", errFdInfo, line, f.err)
		}
		return nil
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return fmt.Errorf("%w: %.80q", errFdInfo, line)
	}
	f := fields{rest: trim(value)}
	if !p.common(string(name), &f) && !p.special(string(name), &f) && !p.timer(string(name), &f) {
		p.Unknown = append(p.Unknown, string(line))
	}
	if f.err != nil {
		return fmt.Errorf("%w: %.80q: %w", errFdInfo, line, f.err)
	}
	return nil
}

func (p *fdParser) common(name string, f *fields) bool {
	switch name {
	case "pos":
		p.Pos, p.pos = f.int(), true
	case "flags":
		p.Flags, p.flags = uint32(f.uint(8)), true
	case "mnt_id":
		p.MntID = f.int32()
	case "ino":
		p.Ino = f.uint(10)
	case "lock":
		p.Locks = append(p.Locks, f.lock())
	default:
		return false
	}
	return true
}

func (p *fdParser) special(name string, f *fields) bool {
	switch name {
	case "eventfd-count":
		p.EventfdCount, p.Eventfd = f.uint(16), true
	case "eventfd-id": // only names it
	case "eventfd-semaphore":
		p.EventfdSemaphore = f.int() != 0
	case "sigmask":
		p.Sigmask, p.Signalfd = f.uint(16), true
	case "tfd":
		p.Epoll = append(p.Epoll, f.epoll())
	case "Pid":
		p.Pid = f.int32()
	case "NSpid": // the same process, seen from its own namespaces
	case "scm_fds":
		p.ScmFds = f.int32()
	case "fanotify flags":
		p.Fanotify = true
	default:
		return false
	}
	return true
}

func (p *fdParser) timer(name string, f *fields) bool {
	switch name {
	case "clockid":
		p.Timerfd = &Timerfd{Clockid: f.int32()}
		return true
	case "ticks", "settime flags", "it_value", "it_interval":
		if p.Timerfd == nil {
			return false
		}
	}
	switch name {
	case "ticks":
		p.Timerfd.Ticks = f.uint(10)
	case "settime flags":
		p.Timerfd.SettimeFlags = uint32(f.uint(8))
	case "it_value":
		p.Timerfd.ValueNs = f.timespec()
	case "it_interval":
		p.Timerfd.IntervalNs = f.timespec()
	default:
		return false
	}
	return true
}

// timespec reads `(seconds, nanoseconds)`.
func (f *fields) timespec() int64 {
	b, ok1 := bytes.CutPrefix(f.rest, []byte("("))
	b, ok2 := bytes.CutSuffix(b, []byte(")"))
	a, b, ok3 := bytes.Cut(b, []byte(", "))
	if !ok1 || !ok2 || !ok3 {
		f.note(errors.New("not a pair of seconds and nanoseconds"))
		return 0
	}
	sec, err := parseUint(a, 10)
	f.note(err)
	ns, err := parseUint(b, 10)
	f.note(err)
	if sec > math.MaxInt64/uint64(time.Second)-1 || ns >= uint64(time.Second) {
		f.note(fmt.Errorf("%w: %d.%09d s", errNumber, sec, ns))
		return 0
	}
	return int64(sec)*int64(time.Second) + int64(ns)
}

// epoll reads `FD events: HEX data: HEX  pos:DEC ino:HEX sdev:HEX`; the last
// three came with Linux 4.13.
func (f *fields) epoll() EpollItem {
	it := EpollItem{TFD: f.int32()}
	for f.rest = trimLeft(f.rest); len(f.rest) > 0 && f.err == nil; f.rest = trimLeft(f.rest) {
		name, rest, ok := bytes.Cut(f.rest, []byte(":"))
		if !ok {
			f.note(errFdInfo)
			return it
		}
		f.rest = rest
		switch string(name) {
		case "events":
			it.Events = uint32(f.uint(16))
		case "data":
			it.Data = f.uint(16)
		case "pos":
			it.Pos = f.int()
		case "ino":
			it.Ino = f.uint(16)
		case "sdev":
			it.Sdev = f.uint(16)
		default:
			f.word()
		}
	}
	return it
}
