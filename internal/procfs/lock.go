// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// lock reads `1: POSIX  ADVISORY  WRITE 2211 08:01:131 0 EOF` (proc_locks(5)).
func (f *fields) lock() Lock {
	var l Lock
	f.word() // a number within the file
	l.Type = string(f.word())
	if l.Type == "->" {
		l.Blocked, l.Type = true, string(f.word())
	}
	l.Mode = string(f.word())
	l.Exclusive = f.lockKind()
	l.Pid = f.int32()
	l.Dev, l.Ino = f.inode()
	l.Start = f.int()
	if end := f.word(); string(end) == "EOF" {
		l.End = math.MaxInt64
	} else {
		v, err := parseInt(end)
		f.note(err)
		l.End = v
	}
	return l
}

func (f *fields) lockKind() (exclusive bool) {
	switch w := f.word(); string(w) {
	case "WRITE":
		return true
	case "READ", "UNLCK":
	default:
		f.note(fmt.Errorf("kind of lock %q", w))
	}
	return false
}

// inode reads major:minor:inode. A lock without an inode says <none>:0.
func (f *fields) inode() (dev, ino uint64) {
	w := f.word()
	if string(w) == "<none>:0" {
		return 0, 0
	}
	part := bytes.Split(w, []byte(":"))
	if len(part) != 3 {
		f.note(fmt.Errorf("inode %q", w))
		return 0, 0
	}
	ino, err := parseUint(part[2], 10)
	f.note(err)
	return unix.Mkdev(uint32(f.number(part[0])), uint32(f.number(part[1]))), ino
}
