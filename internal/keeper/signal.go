// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/plugin"
)

// signal delivers a signal. SIGKILL to all ends the job, whatever is going on.
func (k *Keeper) signal(r signalRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.All && r.Signal == unix.SIGKILL && !k.doomed() {
		close(k.doom)
		go k.KillAll()
		return nil
	}
	if r.All {
		return k.SignalAll(r.Signal)
	}
	if k.main == 0 {
		return plugin.Errorf(plugin.Ended, "", "the job has no main process any more")
	}
	if err := unix.Kill(-k.main, r.Signal); err == nil {
		return nil
	}
	return os.NewSyscallError("kill", unix.Kill(k.main, r.Signal))
}

// SignalAll sends a signal to every process of the job.
func (k *Keeper) SignalAll(sig syscall.Signal) error {
	pids, err := freeze.Descendants(os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("kill", err)
		}
	}
	return nil
}

// KillAll goes on until nothing is left, because there may be forks meanwhile.
func (k *Keeper) KillAll() {
	for {
		k.mu.Lock()
		up := k.up
		_ = k.SignalAll(unix.SIGKILL)
		k.mu.Unlock()
		if !up {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// StopAll makes the job stand still: whoever was forked meanwhile, too.
func (k *Keeper) StopAll() error {
	for n := -1; ; {
		if err := k.SignalAll(unix.SIGSTOP); err != nil {
			return err
		}
		pids, err := freeze.Descendants(os.Getpid())
		if err != nil || len(pids) == n {
			return err
		}
		n = len(pids)
		time.Sleep(5 * time.Millisecond)
	}
}

// Beside runs a command beside the program and waits for its end.
func (k *Keeper) Beside(ctx context.Context, argv, env []string) (plugin.Exit, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return plugin.Exit{}, err
	}
	defer null.Close()
	c := make(chan plugin.Exit, 1)
	k.mu.Lock() // so that the child is not reaped before it is known
	pid, err := k.Fork(argv, env, []*os.File{null, os.Stdout, os.Stderr}, syscall.SysProcAttr{Setpgid: true})
	if err == nil {
		k.awaiting[pid] = c
	}
	k.mu.Unlock()
	if err != nil {
		return plugin.Exit{}, plugin.Errorf(plugin.Internal, "", "%v", err)
	}
	select {
	case exit := <-c:
		return exit, nil
	case <-ctx.Done():
		_ = unix.Kill(-pid, unix.SIGKILL)
		return plugin.Exit{}, context.Cause(ctx)
	}
}
