// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Timer is a POSIX timer of a process, as /proc/PID/timers shows it. When it
// expires next is known only to timer_gettime(2) inside the process.
type Timer struct {
	ID        int
	Signal    int
	Sigval    uint64
	Notify    int // SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD 2; + 4 is SIGEV_THREAD_ID
	NotifyTid int // thread (SIGEV_THREAD_ID) or process, in the pid namespace of /proc
	ClockID   int
}

// sigevThreadID is SIGEV_THREAD_ID of sigevent(3type).
const sigevThreadID = 4

// ParseTimers reads /proc/PID/timers.
func ParseTimers(r io.Reader) ([]Timer, error) {
	var p timerParser
	err := eachLine(r, p.line)
	if err == nil && p.next != 0 {
		err = fmt.Errorf("timer %d is cut off: %w", p.timer.ID, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, fmt.Errorf("parse timers: %w", err)
	}
	return p.timers, nil
}

// ReadTimers reads the POSIX timers of a process.
func ReadTimers(pid int) ([]Timer, error) {
	return parseFile(taskPath(pid, 0, "timers"), ParseTimers)
}

type timerParser struct {
	timers []Timer
	timer  Timer
	next   int // which line of the record comes next
}

var (
	errTimer   = errors.New("not a line of timers")
	timerLines = [...]string{"ID: ", "signal: ", "notify: ", "ClockID: "}
)

func (p *timerParser) line(line []byte) error {
	value, ok := bytes.CutPrefix(line, []byte(timerLines[p.next]))
	f := fields{rest: value}
	if ok {
		p.field(&f)
	} else {
		f.note(fmt.Errorf("want %q", timerLines[p.next]))
	}
	if f.err != nil {
		return fmt.Errorf("%w: %.80q: %w", errTimer, line, f.err)
	}
	p.next = (p.next + 1) % len(timerLines)
	if p.next == 0 {
		p.timers = append(p.timers, p.timer)
		p.timer = Timer{}
	}
	return nil
}

func (p *timerParser) field(f *fields) {
	switch p.next {
	case 0:
		p.timer.ID = f.int32()
	case 1:
		p.timer.Signal, p.timer.Sigval = f.sigval()
	case 2:
		p.timer.Notify, p.timer.NotifyTid = f.notify()
	case 3:
		p.timer.ClockID = f.int32()
	}
}

// sigval reads `60/00007fff86e452a8`.
func (f *fields) sigval() (sig int, val uint64) {
	a, b, _ := bytes.Cut(f.rest, []byte("/"))
	n, err := parseUint(a, 10)
	f.note(err)
	return int(n), f.pointer(b)
}

// pointer reads a %px; a kernel that hides pointers is of no use, but says so.
func (f *fields) pointer(b []byte) uint64 {
	if string(b) == "(null)" { // %p of 0, before Linux 5.2
		return 0
	}
	return f.number(b)
}

// notify reads `signal/tid.2634`: how, to whom.
func (f *fields) notify() (how, id int) {
	a, b, _ := bytes.Cut(f.rest, []byte("/"))
	switch string(a) {
	case "signal":
	case "none":
		how = 1
	case "thread":
		how = 2
	default:
		f.note(fmt.Errorf("notification %q", a))
	}
	kind, number, _ := bytes.Cut(b, []byte("."))
	switch string(kind) {
	case "pid":
	case "tid":
		how |= sigevThreadID
	default:
		f.note(fmt.Errorf("notification to %q", kind))
	}
	n, err := parseInt(number)
	f.note(err)
	return how, int(n)
}
