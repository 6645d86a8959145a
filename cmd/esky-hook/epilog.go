// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// epilog runs as the job's user after the scheduler has ended the job here.
func epilog(j job, _ []string) error {
	strays, err := j.endStrays("/proc")
	if strays > 0 {
		fmt.Printf("ended %d processes that had outlived it\n", strays)
	}
	return errors.Join(err, removeDeadSockets(j.monitors()))
}

// endStrays kills what esky started in this job and the scheduler lost: under
// Slurm's proctrack/linuxproc a process whose parents are gone. Processes of
// the same user's other jobs, and any that esky did not start, are left alone.
func (j job) endStrays(proc string) (int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, err
	}
	ended := 0
	var errs []error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 1 || pid == os.Getpid() {
			continue
		}
		done, err := j.endStray(proc, pid)
		if done {
			ended++
		}
		errs = append(errs, err)
	}
	return ended, errors.Join(errs...)
}

// endStray holds on to the process by a pidfd before it looks, so that what it
// kills is what it looked at, even if the pid has been given away since.
func (j job) endStray(proc string, pid int) (bool, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // gone, or a thread's id
	}
	defer unix.Close(fd)
	// Other users' processes cannot be read, nor signalled: we are the user.
	environ, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "environ"))
	if err != nil || !j.owns(environ) {
		return false, nil
	}
	err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil // it ended by itself meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("kill %d: %w", pid, err)
	}
	return true, nil
}

// owns tells from an environment whether esky started that process in this job,
// which Slurm names by one variable and Grid Engine by two.
func (j job) owns(environ []byte) bool {
	env := map[string]string{}
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, _ := bytes.Cut(kv, []byte{'='})
		env[string(name)] = string(value)
	}
	ids := []string{env["SLURM_JOB_ID"], env["JOB_ID"]}
	if task := env["SGE_TASK_ID"]; task != "" && task != "undefined" {
		ids[1] += "." + task
	}
	return env["ESKY_JOB"] != "" && j.id != "" && slices.Contains(ids, j.id)
}
