// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Processes are jobs that are just programs, in no namespaces: a provider embeds it
// and starts them by Launch. It has the calls of Provider that are about running
// jobs; they need nothing but the handle, so any later process of the provider can
// make them.
type Processes struct{}

// keeper is the shell that is a job's parent. It lives as long as the job, holds
// what is to be held, and leaves the status, in case nobody is there when the job
// ends. Without job control a shell gives a background program /dev/null as
// standard input, hence the duplicate.
const keeper = `exec 4<&0; "$@" <&4 4<&- 3>&- & echo $! >"$0/pid"; exec 4<&-
wait $!; echo $? >"$0/.status"; mv "$0/.status" "$0/status"`

// processesVersion is that of the handles.
const processesVersion = 1

// Launch starts a job for the provider of this name.
func (Processes) Launch(name string, o StartOptions) (Handle, error) {
	if err := executable(o); err != nil {
		return Handle{}, err
	}
	files, err := o.Streams.Open()
	if err != nil {
		return Handle{}, err
	}
	defer CloseAll(files[:]...)
	held, err := OpenStream(o.Hold, true)
	if err != nil {
		return Handle{}, err
	}
	defer held.Close()
	for _, old := range []string{"status", "pid"} {
		if err := os.Remove(filepath.Join(o.StateDir, old)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return Handle{}, err
		}
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, o.StateDir}, o.Argv...)...)
	cmd.Dir, cmd.Env = o.Dir, o.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = files[0], files[1], files[2], []*os.File{held}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Handle{}, err
	}
	go func() { _ = cmd.Wait() }() // the status is in a file
	return Handle{Provider: name, Version: processesVersion, Pid: cmd.Process.Pid, Data: []byte(o.StateDir)}, nil
}

// executable tells a program that cannot be executed as a shell would.
func executable(o StartOptions) error {
	path := o.Argv[0]
	if strings.Contains(path, "/") && !filepath.IsAbs(path) {
		path = filepath.Join(o.Dir, path)
	}
	_, err := exec.LookPath(path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return &Error{Kind: Exec, Status: 127, Text: o.Argv[0] + ": command not found"}
	}
	return &Error{Kind: Exec, Status: 126, Text: o.Argv[0] + ": " + err.Error()}
}

// StateDir is the directory that the job of a handle has.
func (Processes) StateDir(h Handle) string { return string(h.Data) }

// pace is how often a program is looked at that is not our child.
const pace = 20 * time.Millisecond

// Signal implements Provider.
func (p Processes) Signal(ctx context.Context, h Handle, sig syscall.Signal, all bool) error {
	to := -h.Pid
	for !all { // a job that has only just been started has yet to leave its pid
		b, _ := os.ReadFile(filepath.Join(p.StateDir(h), "pid"))
		if _, err := fmt.Sscan(string(b), &to); err == nil || !p.Runs(h) || ctx.Err() != nil {
			break
		}
		time.Sleep(pace)
	}
	if !p.Runs(h) || syscall.Kill(to, sig) != nil {
		return Errorf(Ended, "", "the job has ended")
	}
	return nil
}

// Runs tells whether the job still runs.
func (p Processes) Runs(h Handle) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.Pid))
	if err != nil || strings.Contains(string(b), ") Z ") {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.Pid))
	// The pid is not another's. In the middle of execve(2), when it has just been
	// started, a process has no command line.
	return err == nil && (len(line) == 0 || strings.Contains(string(line), p.StateDir(h)))
}

// Wait implements Provider.
func (p Processes) Wait(ctx context.Context, h Handle) (Exit, error) {
	if err := p.Recover(ctx, h); err != nil {
		return Exit{}, err
	}
	for p.Runs(h) {
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-time.After(pace):
		}
	}
	b, err := os.ReadFile(filepath.Join(p.StateDir(h), "status"))
	if err != nil { // it was killed with its keeper
		return Exit{Signal: syscall.SIGKILL}, nil
	}
	var e Exit
	_, err = fmt.Sscan(string(b), &e.Code)
	return e, err
}

// Recover implements Provider: there is nothing to do but to know the job.
func (p Processes) Recover(_ context.Context, h Handle) error {
	if h.Version != processesVersion || !filepath.IsAbs(p.StateDir(h)) {
		return Errorf(Usage, "", "the handle of process %d is of another provider, or another version", h.Pid)
	}
	if _, err := os.Stat(filepath.Join(p.StateDir(h), "pid")); err != nil && !p.Runs(h) {
		return Errorf(NotFound, "", "the job of process %d is not known", h.Pid)
	}
	return nil
}
