// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// commandTimeout bounds one scheduler command: with its daemon dead a client
// may hang for minutes, which is longer than any grace time.
const commandTimeout = 15 * time.Second

// immune makes a command deaf to what the scheduler sends to all processes of a
// job while that very command asks it to end the job. A disposition of "ignored"
// survives execve (signal(7)), which a Go program can give its children only by
// ignoring the signal itself.
const immune = `trap '' TERM INT HUP USR1 USR2 XCPU ALRM; exec "$@"`

// Run is the Ask of a real system.
func Run(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", immune, "sh"}, argv...)...)
	// A group of its own, so that a terminal's interrupt does not reach it and
	// a time-out ends all of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Env = clientEnv(os.Environ())
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), commandError(ctx, argv, errs.String(), err)
	}
	return out.String(), nil
}

func commandError(ctx context.Context, argv []string, stderr string, err error) error {
	line := strings.Join(argv, " ")
	if ctx.Err() != nil {
		return fmt.Errorf("%s: no answer: %w", line, ctx.Err())
	}
	if text := strings.TrimSpace(stderr); text != "" {
		return fmt.Errorf("%s: %s: %w", line, text, err)
	}
	return fmt.Errorf("%s: %w", line, err)
}

// clientEnv is the user's environment less what would change the output that
// we parse, or put a library of the job's into the scheduler's client.
func clientEnv(env []string) []string {
	out := make([]string, 0, len(env)+2)
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "LD_PRELOAD", "LC_ALL", "SLURM_TIME_FORMAT", "SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SCONTROL_FEDERATION":
			continue
		}
		out = append(out, kv)
	}
	return append(out, "LC_ALL=C", "SLURM_TIME_FORMAT=standard")
}

// retryPause is the time between two tries of a command of an action.
const retryPause = 2 * time.Second

// Perform runs the commands of an action in order. A command that fails is
// tried again until ctx ends, for the usual cause is a controller that is busy
// or being restarted; the last error is returned. An action without commands
// that is to wait for the kill is one that could not be decided: an error, too.
func Perform(ctx context.Context, ask Ask, a Action) error {
	if len(a.Commands) == 0 && a.WaitForKill {
		return errors.New(a.Note)
	}
	for _, argv := range a.Commands {
		if err := insist(ctx, ask, a, argv); err != nil {
			return err
		}
	}
	for _, argv := range a.Then {
		_, _ = ask(ctx, argv...) // the job goes on without
	}
	return nil
}

func insist(ctx context.Context, ask Ask, a Action, argv []string) error {
	for {
		_, err := ask(ctx, argv...)
		if err == nil || a.settled(err) {
			return nil
		}
		// A command that is not there will not appear.
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 127 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

func (a Action) settled(err error) bool {
	for _, s := range a.Settled {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
