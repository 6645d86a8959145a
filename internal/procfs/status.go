// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Status is /proc/PID/status or that of a thread, see proc_pid_status(5).
// Fields that a kernel does not have are zero.
type Status struct {
	Name       string
	Umask      uint32
	State      byte
	Tgid, Pid  int
	PPid       int
	TracerPid  int
	Uid, Gid   [4]int // real, effective, saved, file system
	Groups     []int
	NSpid      []int // outermost namespace that the reader sees first
	NSpgid     []int // process group and session likewise
	NSsid      []int
	Threads    int
	SigQ       int // signals queued for the real user
	SigQLimit  int
	SigPnd     uint64 // of the thread
	ShdPnd     uint64 // of the process
	SigBlk     uint64
	SigIgn     uint64
	SigCgt     uint64
	CapInh     uint64
	CapPrm     uint64
	CapEff     uint64
	CapBnd     uint64
	CapAmb     uint64
	NoNewPrivs bool
	Seccomp    int    // 0 none, 1 strict, 2 filter
	VmRSS      uint64 // bytes, as are the next
	VmSwap     uint64
	VmLck      uint64

	CpusAllowedList string // "0-3,8"; CPUs splits it
	MemsAllowedList string
	ThreadFeatures  string // x86: shstk, wrss
}

// CPUs gives CpusAllowedList as numbers.
func (s *Status) CPUs() ([]int, error) { return ParseCPUList(s.CpusAllowedList) }

// ParseStatus reads /proc/PID/status.
func ParseStatus(r io.Reader) (Status, error) {
	var s Status
	err := eachLine(r, s.line)
	if err == nil && s.Pid == 0 {
		err = fmt.Errorf("no Pid: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return Status{}, fmt.Errorf("parse status: %w", err)
	}
	return s, nil
}

// ReadStatus reads the status of a process (tid 0) or of one of its threads.
func ReadStatus(pid, tid int) (Status, error) {
	return parseFile(taskPath(pid, tid, "status"), ParseStatus)
}

var errStatus = errors.New("not a status field")

func (s *Status) line(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return fmt.Errorf("%w: %.80q", errStatus, line)
	}
	value = trim(value)
	f := fields{rest: value}
	if !s.text(string(name), value) && !s.mask(string(name), &f) {
		s.number(string(name), &f)
	}
	if f.err != nil {
		return fmt.Errorf("%s: %w", name, f.err)
	}
	return nil
}

// text takes the fields that are words. The kernel escapes newline and
// backslash in Name.
func (s *Status) text(name string, value []byte) bool {
	switch name {
	case "Name":
		s.Name = unescape.Replace(string(value))
	case "State":
		if len(value) > 0 {
			s.State = value[0]
		}
	case "Cpus_allowed_list":
		s.CpusAllowedList = string(value)
	case "Mems_allowed_list":
		s.MemsAllowedList = string(value)
	case "x86_Thread_features":
		s.ThreadFeatures = string(value)
	default:
		return false
	}
	return true
}

var unescape = strings.NewReplacer(`\n`, "\n", `\\`, `\`)

// mask takes the fields that are sets of bits, in hexadecimal.
func (s *Status) mask(name string, f *fields) bool {
	for i, known := range masks {
		if name == known {
			*s.maskField(i) = f.uint(16)
			return true
		}
	}
	return false
}

var masks = [...]string{"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

func (s *Status) maskField(i int) *uint64 {
	return [...]*uint64{
		&s.SigPnd, &s.ShdPnd, &s.SigBlk, &s.SigIgn, &s.SigCgt,
		&s.CapInh, &s.CapPrm, &s.CapEff, &s.CapBnd, &s.CapAmb,
	}[i]
}

// number takes the fields that are decimal (Umask: octal).
func (s *Status) number(name string, f *fields) {
	switch name {
	case "Umask":
		s.Umask = uint32(f.uint(8))
	case "Tgid":
		s.Tgid = f.int32()
	case "Pid":
		s.Pid = f.int32()
	case "PPid":
		s.PPid = f.int32()
	case "TracerPid":
		s.TracerPid = f.int32()
	case "Threads":
		s.Threads = f.int32()
	case "NoNewPrivs":
		s.NoNewPrivs = f.int32() != 0
	case "Seccomp":
		s.Seccomp = f.int32()
	case "Uid":
		s.Uid = f.four()
	case "Gid":
		s.Gid = f.four()
	case "Groups":
		s.Groups = f.list()
	case "NSpid":
		s.NSpid = f.list()
	case "NSpgid":
		s.NSpgid = f.list()
	case "NSsid":
		s.NSsid = f.list()
	case "SigQ":
		s.SigQ, s.SigQLimit = f.pair()
	case "VmRSS":
		s.VmRSS = f.uint(10) << 10
	case "VmSwap":
		s.VmSwap = f.uint(10) << 10
	case "VmLck":
		s.VmLck = f.uint(10) << 10
	}
}

// id reads a uid or gid, which has 32 bits without a sign.
func (f *fields) id() int {
	v := f.uint(10)
	if v != uint64(uint32(v)) {
		f.note(fmt.Errorf("%w of 32 bits: %d", errNumber, v))
	}
	return int(v)
}

func (f *fields) four() (v [4]int) {
	for i := range v {
		v[i] = f.id()
	}
	return v
}

func (f *fields) list() []int {
	var v []int
	for f.rest = trimLeft(f.rest); len(f.rest) > 0 && f.err == nil; f.rest = trimLeft(f.rest) {
		v = append(v, f.id())
	}
	return v
}

func (f *fields) pair() (int, int) {
	a, b, ok := bytes.Cut(f.rest, []byte("/"))
	if !ok {
		f.note(fmt.Errorf("%w: %.40q is no pair", errNumber, f.rest))
	}
	x, err := parseInt(a)
	f.note(err)
	y, err := parseUint(b, 10) // RLIM_INFINITY is all bits
	f.note(err)
	return int(x), int(y)
}
