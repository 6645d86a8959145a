// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Gather collects the facts about this process, which is to run command.
func Gather(command []string) (Facts, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Facts{}, fmt.Errorf("working directory: %w", err)
	}
	return Facts{
		Env:     os.Getenv,
		Ask:     Run,
		Command: command,
		Dir:     dir,
		Pid:     os.Getpid(),
		Now:     time.Now(),
		Stdout:  streamOf(1),
	}, nil
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
