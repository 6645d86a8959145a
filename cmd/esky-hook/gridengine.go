// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/guard"
)

// The commands of a checkpointing environment of Grid Engine (sge_ckpt(5)). Its
// shepherd runs them as the job's owner, with the job's environment; their
// argument is $job_pid, the process that leads the job's session.

// gridengineJob: a task of an array is a job of its own, as in esky's keys.
func gridengineJob(args []string, env func(string) string) (job, error) {
	if len(args) != 1 {
		return job{}, errors.New("the one argument is $job_pid")
	}
	id, err := guard.Number("JOB_ID", env("JOB_ID"))
	if err != nil {
		return job{}, err
	}
	j := job{id: strconv.Itoa(id), user: guard.User{UID: os.Getuid(), GID: os.Getgid()}}
	if word := env("SGE_TASK_ID"); word != "undefined" {
		task, err := guard.Number("SGE_TASK_ID", word)
		if err != nil {
			return job{}, err
		}
		j.id += "." + strconv.Itoa(task)
	}
	return j, nil
}

// geCheckpoint has the job saved, and does not wait for that: a job of 8.1.9 that
// is suspended while its ckpt_command runs is killed and not queued again.
func geCheckpoint(j job, _ []string) error {
	program, err := wrapPath()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, "checkpoint", "--quiet", "--of", j.id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // our end is not its
	return cmd.Start()
}

// geMigrate saves the job and ends it, upon which Grid Engine starts it again
// elsewhere. A job that cannot be saved is not ended: one of esky's runs on, any
// other is stopped until Grid Engine continues it (qmod -usj).
func geMigrate(j job, args []string) error {
	leader, err := leaderOf(args)
	if err != nil {
		return err
	}
	monitors, err := monitorsOf(j.id)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == noSuchJob:
		return errors.Join(errors.New("esky does not run this job: it is stopped"), syscall.Kill(-leader, syscall.SIGSTOP))
	case err != nil:
		return err
	}
	if !slices.ContainsFunc(monitors, func(m monitorState) bool { return m.Pid == leader }) {
		// The script must not go on to its next command when this one ends.
		if err := syscall.Kill(leader, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("stop the script: %w", err)
		}
	}
	if err := endSaved(j.id, monitors); err != nil {
		_ = syscall.Kill(leader, syscall.SIGCONT) // harmless to a monitor
		return fmt.Errorf("it runs on: %w", err)
	}
	if err := syscall.Kill(-leader, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end what is left of the saved job: %w", err)
	}
	return nil
}

// leaderOf reads $job_pid. Group 1 would be all that we may signal (kill(2), -1).
func leaderOf(args []string) (int, error) {
	pid, err := guard.Number("$job_pid", args[0])
	if err == nil && pid == 1 {
		err = errors.New("$job_pid is 1, which no job is")
	}
	return pid, err
}

// endSaved saves all of a job's commands and ends them, or none: of several it is
// first seen whether all can be saved.
func endSaved(id string, monitors []monitorState) error {
	if len(monitors) > 1 {
		if _, err := wrap("checkpoint", "--quiet", "--of", id); err != nil {
			return err
		}
	}
	var ends []int
	for _, m := range monitors {
		fd, err := watch(m.Pid)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ends = append(ends, fd)
	}
	if _, err := wrap("checkpoint", "--quiet", "--stop", "--no-requeue", "--of", id); err != nil {
		return err
	}
	for _, fd := range ends {
		if err := await(fd); err != nil {
			fmt.Println(err) // the images are there: what is left is killed
		}
	}
	return nil
}

// geClean runs after the end of the job on this host, also of one that will be
// queued again: what is saved is none of its business.
func geClean(j job, _ []string) error { return epilog(j, nil) }
