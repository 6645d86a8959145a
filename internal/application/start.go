// SPDX-License-Identifier: Apache-2.0

package application

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

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

// Start implements plugin.Provider.
func (p *Provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "there is no program to start")
	}
	c, err := readConfig(o.Options, o.Dir)
	if err != nil {
		return plugin.Handle{}, err
	}
	return p.launch(spec{Argv: o.Argv, Command: o.Argv, Env: o.Env, Dir: o.Dir, StateDir: o.StateDir, Config: c}, o.Streams, o.Hold)
}

// Resume implements plugin.Provider. The configuration is that of the image, unless
// there is a newer one.
func (p *Provider) Resume(ctx context.Context, o plugin.ResumeOptions, progress func(plugin.Progress)) (plugin.Resumed, error) {
	began := time.Now()
	m, err := readManifest(o.Dir)
	if err != nil {
		return plugin.Resumed{}, err
	}
	if len(o.Options) > 0 {
		if m.Config, err = readConfig(o.Options, m.Dir); err != nil {
			return plugin.Resumed{}, err
		}
	}
	switch o.Files {
	case "", "rollback", "accept", "strict":
	default:
		return plugin.Resumed{}, plugin.Errorf(plugin.Usage, "", "files %q is none of rollback, accept, strict", o.Files)
	}
	progress(plugin.Progress{Phase: "verify", Total: m.bytes()})
	if err := m.verify(ctx, o.Dir); err != nil {
		return plugin.Resumed{}, err
	}
	notes, err := m.putBack(ctx, o.Dir, o.Files)
	if err != nil {
		return plugin.Resumed{}, asError(err)
	}
	h, err := p.launch(spec{
		Argv: m.Config.restart(m.Command, m.File), Command: m.Command, Env: o.Env, Dir: m.Dir, StateDir: o.StateDir, Config: m.Config,
	}, o.Streams, o.Hold)
	if err != nil {
		return plugin.Resumed{}, err
	}
	return plugin.Resumed{Job: h, Bytes: m.bytes(), Took: time.Since(began), Notes: notes}, nil
}

// launch starts a keeper.
func (p *Provider) launch(s spec, streams plugin.Streams, hold plugin.Stream) (plugin.Handle, error) {
	if !filepath.IsAbs(s.StateDir) || !filepath.IsAbs(s.Dir) {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "the directories %q and %q are not absolute paths", s.StateDir, s.Dir)
	}
	files, err := streams.Open()
	if err != nil {
		return plugin.Handle{}, asError(err)
	}
	defer plugin.CloseAll(files[:]...)
	cmd := exec.Command("/proc/self/exe", verb)
	cmd.Args[0] = "esky-keeper"
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what is sent to the host's group is not for the job
	specR, specW, err := os.Pipe()
	if err != nil {
		return plugin.Handle{}, err
	}
	defer plugin.CloseAll(specR, specW)
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return plugin.Handle{}, err
	}
	defer plugin.CloseAll(reportR, reportW)
	cmd.ExtraFiles = []*os.File{specR, reportW}
	if hold != "" {
		held, err := plugin.OpenStream(hold, true)
		if err != nil {
			return plugin.Handle{}, asError(err)
		}
		defer held.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, held)
	}
	if err := cmd.Start(); err != nil {
		return plugin.Handle{}, fmt.Errorf("start the keeper of the job: %w", err)
	}
	plugin.CloseAll(specR, reportW)
	err = json.NewEncoder(specW).Encode(s)
	specW.Close()
	var r report
	if e := json.NewDecoder(reportR).Decode(&r); e != nil {
		err = fmt.Errorf("the keeper of the job has ended: %w", errors.Join(e, err))
	} else if r.Err != nil {
		err = r.Err
	}
	if err != nil {
		_ = cmd.Wait() // the report tells
		return plugin.Handle{}, err
	}
	m := memo{Socket: r.Socket, StateDir: s.StateDir, Start: r.Start}
	p.add(cmd.Process.Pid, m, cmd.Wait)
	data, _ := json.Marshal(m) // strings and a number
	return plugin.Handle{Provider: Name, Version: memoVersion, Pid: cmd.Process.Pid, Data: data}, nil
}

// add keeps a job and watches it.
func (p *Provider) add(pid int, m memo, wait func() error) {
	j := &job{pid: pid, memo: m, ended: make(chan struct{})}
	p.jobs.Add(pid, j)
	go func() {
		_ = wait() // the keeper's own status tells nothing
		j.exit, j.err = j.ending()
		close(j.ended)
	}()
}

// ending reads how the job ended.
func (j *job) ending() (plugin.Exit, error) {
	var e ending
	b, err := os.ReadFile(endingPath(j.memo.StateDir))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil || e.Pid != j.pid || e.Start != j.memo.Start {
		return plugin.Exit{}, plugin.Errorf(plugin.Lost, "", "the process that watched over the job was killed: nobody knows how the job ended")
	}
	return e.Exit, nil
}

// Recover implements plugin.Provider.
func (p *Provider) Recover(_ context.Context, h plugin.Handle) error {
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
