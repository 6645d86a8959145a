// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// Gather collects the facts about this process, which is to run command.
func Gather(command []string) (Facts, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Facts{}, fmt.Errorf("working directory: %w", err)
	}
	f := Facts{
		Env:     os.Getenv,
		Ask:     Run,
		Command: command,
		Dir:     dir,
		Pid:     os.Getpid(),
		Now:     time.Now(),
		Stdout:  streamOf(1),
		Read:    ReadFile,
	}
	f.session()
	return f, nil
}

// longestFile bounds what is read of a file that a scheduler wrote.
const longestFile = 1 << 20

// ReadFile is what Facts.Read is: it reads a small file.
func ReadFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, longestFile))
	return string(b), err
}

// session tells which session we belong to, and when its leader was started, or,
// where that has ended or is outside of our pid namespace (setsid(2) calls such a
// session 0), the first of our ancestors in it. Schedulers give each incarnation
// of a job a session of its own, so that, together with the boot, the start is a
// number that no other has.
func (f *Facts) session() {
	self, err := procfs.ReadStat(f.Pid, 0)
	if err != nil {
		return
	}
	f.Leader = self.Session == f.Pid
	first, err := procfs.ReadStat(self.Session, 0)
	if self.Session == 0 || err != nil {
		first = oldest(self)
	}
	var boot unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return
	}
	f.Began = f.Now.Add(time.Duration(first.Starttime)*(time.Second/100) - time.Duration(boot.Nano()))
	id, _ := ReadFile("/proc/sys/kernel/random/boot_id")
	word, _, _ := strings.Cut(id, "-")
	which, _ := strconv.ParseInt(word, 16, 64)
	f.Start = int(which&0xffffff<<38) | int(first.Starttime)
}

// oldest is the first ancestor of a process that is in the same session as all
// between.
func oldest(p procfs.Stat) procfs.Stat {
	for {
		parent, err := procfs.ReadStat(p.Ppid, 0)
		if p.Ppid == 0 || err != nil || parent.Session != p.Session {
			return p
		}
		p = parent
	}
}

// streamOf describes a descriptor; a closed one is like any other non-file.
func streamOf(fd int) Stream {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return Stream{}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Stream{}
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) // without /proc: no path
	return Stream{
		Regular: true,
		Append:  err == nil && flags&unix.O_APPEND != 0,
		Path:    path,
	}
}
