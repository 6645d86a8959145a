// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// Stat is /proc/PID/stat or that of a thread; names and units as in
// proc_pid_stat(5).
type Stat struct {
	Pid       int
	Comm      string // exact: spaces, parentheses, newlines and all
	State     byte   // R, S, D, T (stopped), t (traced), Z, X, I
	Ppid      int
	Pgrp      int
	Session   int
	TtyNr     int
	Tpgid     int
	Flags     uint64 // PF_*
	Utime     uint64 // clock ticks
	Stime     uint64
	Priority  int
	Nice      int
	Threads   int
	Starttime uint64 // clock ticks since boot

	StartCode, EndCode, StartStack uint64
	ExitSignal                     int
	Processor                      int
	RtPriority, Policy             int
	StartData, EndData, StartBrk   uint64
	ArgStart, ArgEnd               uint64
	EnvStart, EnvEnd               uint64
	ExitCode                       int // as wait(2) gives it
}

// tick is the unit of Utime, Stime and Starttime: USER_HZ is 100 on every architecture
// that Go knows.
const tick = 10 * time.Millisecond

// Start is when it was started, counted from the boot (CLOCK_BOOTTIME).
func (s *Stat) Start() time.Duration { return time.Duration(s.Starttime) * tick }

// CPU is the processor time used.
func (s *Stat) CPU() time.Duration { return time.Duration(s.Utime+s.Stime) * tick }

// ParseStat reads /proc/PID/stat.
func ParseStat(r io.Reader) (Stat, error) {
	var s Stat
	err := readSmall(r, s.parse)
	if err != nil {
		return Stat{}, fmt.Errorf("parse stat: %w", err)
	}
	return s, nil
}

// ReadStat reads the stat of a process (tid 0: sums over its threads) or of one
// of its threads. Fields that need ptrace rights are 0 without them.
func ReadStat(pid, tid int) (Stat, error) {
	return parseFile(taskPath(pid, tid, "stat"), ParseStat)
}

var errStat = errors.New("not a stat record")

// parse finds the name between the first and the last parenthesis: the kernel
// does not escape it, and only numbers follow.
func (s *Stat) parse(b []byte) error {
	from, to := bytes.Index(b, []byte(" (")), bytes.LastIndex(b, []byte(") "))
	if from < 0 || to < from+2 || b[len(b)-1] != '\n' {
		return fmt.Errorf("%w: %.80q", errStat, b)
	}
	pid := fields{rest: b[:from]}
	s.Pid, s.Comm = pid.int32(), string(b[from+2:to])
	f := fields{rest: b[to+2 : len(b)-1], err: pid.err}
	state := f.word()
	if len(state) != 1 {
		return fmt.Errorf("%w: state %q", errStat, state)
	}
	s.State = state[0]
	s.ids(&f)
	s.memory(&f)
	return f.err
}

// ids takes fields 4 to 25.
func (s *Stat) ids(f *fields) {
	s.Ppid, s.Pgrp, s.Session = f.int32(), f.int32(), f.int32()
	s.TtyNr, s.Tpgid = f.int32(), f.int32()
	s.Flags = f.uint(10)
	f.skip(4) // minflt cminflt majflt cmajflt
	s.Utime, s.Stime = f.uint(10), f.uint(10)
	f.skip(2) // cutime cstime
	s.Priority, s.Nice, s.Threads = f.int32(), f.int32(), f.int32()
	f.skip(1) // itrealvalue
	s.Starttime = f.uint(10)
	f.skip(3) // vsize rss rsslim
}

// memory takes fields 26 to 52.
func (s *Stat) memory(f *fields) {
	s.StartCode, s.EndCode, s.StartStack = f.uint(10), f.uint(10), f.uint(10)
	f.skip(9) // kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap
	s.ExitSignal, s.Processor = f.int32(), f.int32()
	s.RtPriority, s.Policy = f.int32(), f.int32()
	f.skip(3) // delayacct guest_time cguest_time
	s.StartData, s.EndData, s.StartBrk = f.uint(10), f.uint(10), f.uint(10)
	s.ArgStart, s.ArgEnd = f.uint(10), f.uint(10)
	s.EnvStart, s.EnvEnd = f.uint(10), f.uint(10)
	s.ExitCode = f.int32()
}

func (f *fields) skip(n int) {
	for range n {
		f.word()
	}
}
