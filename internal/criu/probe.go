// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// Probe implements plugin.Provider.
func (p *Provider) Probe(_ context.Context, o plugin.ProbeOptions) (plugin.ProbeReport, error) {
	t, err := find(nil)
	if err != nil {
		return unusable(err), nil
	}
	if err := privileged(t.Path); err != nil {
		return unusable(err), nil
	}
	if o.StateDir != "" && unix.Access(o.StateDir, unix.W_OK|unix.X_OK) != nil {
		return unusable(plugin.Errorf(plugin.Host, "a directory of yours", "%s cannot be written", o.StateDir)), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tested {
		p.result, p.tested = t.try(), true
	}
	if p.result != nil {
		return unusable(p.result), nil
	}
	return plugin.ProbeReport{Usable: true}, nil
}

func unusable(err error) plugin.ProbeReport {
	f := plugin.Finding{Fatal: true, Text: err.Error(), Remedy: "run `criu check` as the same user"}
	var e *plugin.Error
	if errors.As(err, &e) && e.Hint != "" {
		f.Remedy = e.Hint
	}
	return plugin.ProbeReport{Findings: []plugin.Finding{f}}
}

// privileged tells whether criu will be allowed to do anything: either we have a
// capability, or its file gives one to whoever executes it (capabilities(7)).
func privileged(path string) error {
	status, err := procfs.ReadStatus(os.Getpid(), 0)
	if err != nil {
		return err
	}
	const useful = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_CHECKPOINT_RESTORE
	if status.CapEff&useful != 0 {
		return nil
	}
	if n, err := unix.Getxattr(path, "security.capability", nil); err == nil && n > 0 {
		return nil
	}
	return plugin.Errorf(plugin.Host,
		"run it as root, or ask for `setcap cap_checkpoint_restore,cap_sys_ptrace+eip "+path+"`; in a container, for these two capabilities",
		"criu may do nothing for this user: CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) is missing")
}

// try saves a small process and brings it back: only so it is known whether this criu
// and this kernel understand each other.
func (t tool) try() error {
	dir, err := os.MkdirTemp("", "esky-criu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t.Work = dir
	for tries := 0; ; tries++ {
		err := t.tryOnce(dir)
		// Somebody may just then have got the number of the process.
		if err == nil || tries == 2 || plugin.KindOf(err) != plugin.Busy {
			return err
		}
	}
}

func (t tool) tryOnce(images string) error {
	// It ends by itself, should we be killed.
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process to try criu on: %w", err)
	}
	err := t.dump(images, cmd.Process.Pid, false, &dumping{done: func() error { return nil }})
	_ = cmd.Process.Kill() // criu has, if it could
	_ = cmd.Wait()         // it was killed
	if err != nil {
		return t.useless("save", err)
	}
	pid, err := t.restore(images, nil)
	if err != nil {
		return t.useless("resume", err)
	}
	_ = unix.Kill(pid, unix.SIGKILL) // a child of ours
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return os.NewSyscallError("wait4", err)
		}
	}
}

// useless says that criu does not work here, and why.
func (t tool) useless(what string, err error) error {
	if plugin.KindOf(err) == plugin.Busy {
		return err
	}
	return plugin.Errorf(plugin.Host, "another version of criu, or provider native, which needs none", "%s cannot %s even a small process on %s: %s", t.version(), what, kernel(), strings.TrimPrefix(err.Error(), "criu: "))
}

// version is that of criu, for people.
func (t tool) version() string {
	out, _ := exec.Command(t.Path, "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace("criu " + strings.TrimPrefix(line, "Version: "))
}
