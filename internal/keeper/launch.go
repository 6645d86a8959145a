// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// memoVersion is that of memo.
const memoVersion = 1

// memo is what the handle of a job has in it.
type memo struct {
	Socket   string
	StateDir string
	Start    uint64 // of the keeper: a pid may be another's by now
}

// Launch starts a keeper. own is for the trade.
func (p *Jobs) Launch(s Spec, own any, streams plugin.Streams, hold plugin.Stream) (plugin.Handle, error) {
	if !filepath.IsAbs(s.StateDir) || !filepath.IsAbs(s.Dir) {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "the directories %q and %q are not absolute paths", s.StateDir, s.Dir)
	}
	var err error
	if s.Own, err = json.Marshal(own); err != nil {
		return plugin.Handle{}, err
	}
	files, err := streams.Open()
	if err != nil {
		return plugin.Handle{}, AsError(err)
	}
	defer plugin.CloseAll(files[:]...)
	cmd := exec.Command("/proc/self/exe", verb, p.jobs.Provider)
	cmd.Args[0] = "esky-keeper"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is sent to the host's group is not for the job
	if hold != "" {
		held, err := plugin.OpenStream(hold, true)
		if err != nil {
			return plugin.Handle{}, AsError(err)
		}
		defer held.Close()
		cmd.ExtraFiles = []*os.File{held}
	}
	r, err := instruct(cmd, s)
	if err != nil {
		return plugin.Handle{}, err
	}
	m := memo{Socket: r.Socket, StateDir: s.StateDir, Start: r.Start}
	p.add(cmd.Process.Pid, m, cmd.Wait)
	data, _ := json.Marshal(m) // strings and a number
	return plugin.Handle{Provider: p.jobs.Provider, Version: memoVersion, Pid: cmd.Process.Pid, Data: data}, nil
}

// instruct starts the process, tells it what to do, and waits until it has begun.
func instruct(cmd *exec.Cmd, s Spec) (r report, err error) {
	specR, specW, err := os.Pipe()
	if err != nil {
		return r, err
	}
	defer plugin.CloseAll(specR, specW)
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return r, err
	}
	defer plugin.CloseAll(reportR, reportW)
	cmd.ExtraFiles = append([]*os.File{specR, reportW}, cmd.ExtraFiles...)
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("start the keeper of the job: %w", err)
	}
	plugin.CloseAll(specR, reportW)
	err = json.NewEncoder(specW).Encode(s)
	specW.Close()
	if e := json.NewDecoder(reportR).Decode(&r); e != nil {
		err = fmt.Errorf("the keeper of the job has ended: %w", errors.Join(e, err))
	} else if r.Err != nil {
		err = r.Err
	}
	if err != nil {
		_ = cmd.Wait() // the report tells
	}
	return r, err
}

// add keeps a job and watches it.
func (p *Jobs) add(pid int, m memo, wait func() error) {
	j := &job{pid: pid, memo: m, ended: make(chan struct{})}
	p.jobs.Add(pid, j)
	go func() {
		_ = wait() // the keeper's own status tells nothing
		j.exit, j.err = j.ending()
		close(j.ended)
	}()
}

// Recover implements plugin.Provider.
func (p *Jobs) Recover(_ context.Context, h plugin.Handle) error {
	if _, err := p.jobs.Find(h); err == nil {
		return nil
	}
	var m memo
	if err := p.jobs.Read(h, &m); err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(h.Pid, 0)
	if err == nil { // opened before it is compared: afterwards it cannot become another's
		stat, err := procfs.ReadStat(h.Pid, 0)
		if err != nil || stat.Starttime != m.Start {
			unix.Close(fd)
			fd = -1
		}
	}
	p.add(h.Pid, m, func() error {
		if err != nil || fd < 0 {
			return nil // it has ended
		}
		defer unix.Close(fd)
		for {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err != unix.EINTR {
				return err
			}
		}
	})
	return nil
}
