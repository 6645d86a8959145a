// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sched is what /proc/PID/task/TID/sched tells of a thread. The file is there
// only with CONFIG_SCHED_DEBUG, and its fields are no promise of the kernel.
type Sched struct {
	// ExecStart is when the thread was last put on a CPU or accounted for
	// there, on the scheduler's clock (since boot, without sleep).
	ExecStart         time.Duration
	VoluntarySwitches uint64 // how often it went to sleep
	OK                bool   // both fields were there
}

// ParseSched reads /proc/PID/task/TID/sched.
func ParseSched(r io.Reader) (Sched, error) {
	p := schedParser{}
	err := eachLine(r, p.line)
	if err != nil {
		return Sched{}, fmt.Errorf("parse sched: %w", err)
	}
	p.OK = p.seen == 2
	return p.Sched, nil
}

// ReadSched reads the scheduler's view of one thread (tid 0: of the leader).
func ReadSched(pid, tid int) (Sched, error) {
	return parseFile(taskPath(pid, tid, "sched"), ParseSched)
}

type schedParser struct {
	Sched
	body bool
	seen int
}

var (
	errMillis = errors.New("not milliseconds")
	ruler     = []byte("----------------")
)

// line looks at nothing before the ruler: the title has the thread's name, raw,
// which may hold a newline and look like a field, but is shorter than a ruler.
func (p *schedParser) line(line []byte) error {
	if !p.body {
		p.body = bytes.HasPrefix(line, ruler)
		return nil
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	f := fields{rest: trim(value)}
	switch string(trim(name)) {
	case "se.exec_start":
		p.ExecStart = f.millis()
	case "nr_voluntary_switches":
		p.VoluntarySwitches = f.uint(10)
	default:
		return nil
	}
	p.seen++
	return f.err
}

// millis reads 1234.567890: milliseconds with nanoseconds.
func (f *fields) millis() time.Duration {
	a, b, _ := bytes.Cut(f.word(), []byte("."))
	ms, err1 := parseUint(a, 10)
	ns, err2 := parseUint(b, 10)
	if err1 != nil || err2 != nil || len(b) != 6 || ms > 1<<43 {
		f.note(fmt.Errorf("%w: %q.%q", errMillis, a, b))
		return 0
	}
	return time.Duration(ms)*time.Millisecond + time.Duration(ns)
}
