// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// Schedulers with a checkpoint interface of their own call a program to save a
// job, and another, perhaps, to start it again. They bring it back themselves, so
// esky must not. What they start again is one process, the job; so the job must be
// one esky-wrap and nothing besides.

// monitorState is what esky-wrap tells of one that runs.
type monitorState struct {
	Job   string `json:"job"`
	Store string `json:"store"`
	Pid   int    `json:"monitor_pid"`
}

// saveNative saves all of a scheduler's job, and returns the record by which it is
// started again. With stop the job ends.
func saveNative(id string, stop bool) ([]byte, error) {
	m, err := only(id)
	if err != nil {
		return nil, err
	}
	r, err := recordOf(m)
	if err != nil {
		return nil, err
	}
	text, err := r.marshal()
	if err != nil {
		return nil, err
	}
	ended, err := watch(m.Pid)
	if err != nil {
		return nil, err
	}
	defer unix.Close(ended)
	args := []string{"checkpoint", "--quiet", "--of", id}
	if stop {
		args = append(args, "--stop", "--no-requeue")
	}
	if _, err = wrap(args...); err == nil && stop {
		err = await(ended)
	}
	return text, err
}

// farewell is how long an esky-wrap that has saved its job may take to end.
const farewell = 30 * time.Second

// watch holds on to a process, and await waits for its end.
func watch(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return fd, nil
}

func await(pidfd int) error {
	for begin := time.Now(); time.Since(begin) < farewell; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return errors.New("the job is saved, but its esky-wrap does not end")
}

// noSuchJob is esky-wrap's status where nothing of esky runs in a job.
const noSuchJob = 66

// monitorsOf finds what esky-wrap runs in a scheduler's job.
func monitorsOf(id string) ([]monitorState, error) {
	out, err := wrap("status", "--json", "--of", id)
	if err != nil {
		return nil, err
	}
	var all []monitorState
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("read the answer of esky-wrap: %w", err)
	}
	return all, nil
}

// only finds the one esky-wrap of a scheduler's job.
func only(id string) (monitorState, error) {
	all, err := monitorsOf(id)
	if err != nil {
		return monitorState{}, err
	}
	if len(all) != 1 {
		return monitorState{}, fmt.Errorf("%d commands of job %s run under esky here: only one can be saved by the scheduler", len(all), id)
	}
	return all[0], alone(all[0].Pid)
}

// alone tells whether nothing of the job but this process is to be run: it leads
// its session, or a login shell does that was given the script's name by a pipe
// and waits for it (PBS). Any other shell has more lines to run, and would run
// them when esky-wrap ends.
func alone(pid int) error {
	self, err := procfs.ReadStat(pid, 0)
	if err != nil {
		return err
	}
	if self.Session == pid {
		return nil
	}
	proc := "/proc/" + strconv.Itoa(self.Ppid)
	argv, err := os.ReadFile(proc + "/cmdline")
	input, inputErr := os.Readlink(proc + "/fd/0")
	if err == nil && inputErr == nil && self.Ppid == self.Session &&
		bytes.HasPrefix(argv, []byte("-")) && strings.HasPrefix(input, "pipe:") {
		return nil
	}
	return errors.New("the job script goes on after esky-wrap: it cannot be saved by the scheduler; write \"exec esky-wrap run …\" as its last line")
}

// wrap runs the esky-wrap that lies beside this program.
func wrap(args ...string) ([]byte, error) {
	program, err := wrapPath()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s (%w)", strings.TrimPrefix(strings.TrimSpace(errs.String()), "esky-wrap: "), err)
	}
	return out.Bytes(), nil
}

func wrapPath() (string, error) {
	self, err := os.Executable()
	return filepath.Join(filepath.Dir(self), "esky-wrap"), err
}
