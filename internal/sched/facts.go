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
		Read:    readFile,
	}
	f.session()
	return f, nil
}

// longestFile bounds what is read of a file that a scheduler wrote.
const longestFile = 1 << 20

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, longestFile))
	return string(b), err
}

// session tells which session we belong to, and when its leader was started:
// field 22 of /proc/PID/stat, in hundredths of a second since the boot (proc(5)).
// Schedulers give each incarnation of a job a session of its own, so that,
// together with the boot, this is a number that no other has.
func (f *Facts) session() {
	sid, err := unix.Getsid(0)
	if err != nil {
		return
	}
	f.Leader = sid == f.Pid
	stat, err := readFile(fmt.Sprintf("/proc/%d/stat", sid))
	if err != nil {
		return // its leader has ended
	}
	_, rest, _ := strings.Cut(stat, ") ")
	const startTime = 22 - 3 // rest begins with field 3
	fields := strings.Fields(rest)
	if len(fields) <= startTime {
		return
	}
	ticks, err := strconv.ParseInt(fields[startTime], 10, 64)
	var boot unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return
	}
	f.Began = f.Now.Add(time.Duration(ticks)*(time.Second/100) - time.Duration(boot.Nano()))
	id, _ := readFile("/proc/sys/kernel/random/boot_id")
	first, _, _ := strings.Cut(id, "-")
	which, _ := strconv.ParseInt(first, 16, 64)
	f.Start = int(which&0xffffff<<38 | ticks)
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
