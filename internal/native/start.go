// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/shim"
)

// memoVersion is that of memo.
const memoVersion = 1

// memo is what the handle of a job has in it.
type memo struct {
	StateDir  string
	InitStart uint64 // field 22 of proc_pid_stat(5): a pid may be another's by now
	Mode      string
	Command   []string
	Dir       string
	Env       []string // what names directories for temporary files
}

func (m memo) handle(pid int) plugin.Handle {
	data, _ := json.Marshal(m) // strings and a number
	return plugin.Handle{Provider: Name, Version: memoVersion, Pid: pid, Data: data}
}

func (m memo) statusPath() string { return filepath.Join(m.StateDir, "status") }

// Start implements plugin.Provider.
func (p *Provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "there is no program to start")
	}
	m := memo{StateDir: o.StateDir, Command: o.Argv, Dir: o.Dir, Env: temporaryOf(o.Env)}
	return p.launch(m, o.Streams, o.Hold, o.Options[OptionMode], func(s engine.Streams, hold *os.File, mode string) (*engine.Job, error) {
		env, err := preload(o.Env, o.StateDir, mode, m.statusPath())
		if err != nil {
			return nil, err
		}
		return engine.Start(engine.StartOptions{
			Argv: o.Argv, Env: env, Dir: o.Dir, Streams: s, Lock: hold, StatusPath: m.statusPath(), Mode: mode,
		})
	})
}

// Resume implements plugin.Provider.
func (p *Provider) Resume(ctx context.Context, o plugin.ResumeOptions, progress func(plugin.Progress)) (plugin.Resumed, error) {
	img, err := image.Open(o.Dir)
	if err != nil {
		return plugin.Resumed{}, wrap(err)
	}
	m := memo{StateDir: o.StateDir, Command: img.Meta().GetCommand(), Dir: img.Meta().GetCwd(), Env: temporaryOf(o.Env)}
	img.Close()
	switch o.Files {
	case "", "rollback", "accept", "strict":
	default:
		return plugin.Resumed{}, plugin.Errorf(plugin.Usage, "", "files %q is none of rollback, accept, strict", o.Files)
	}
	var r *engine.ResumeReport
	h, err := p.launch(m, o.Streams, o.Hold, o.Options[OptionMode], func(s engine.Streams, hold *os.File, mode string) (j *engine.Job, err error) {
		j, r, err = engine.Resume(ctx, engine.ResumeOptions{
			Image: o.Dir, Streams: s, Lock: hold, StatusPath: m.statusPath(), SavedDir: filepath.Join(o.StateDir, "saved"),
			Files: o.Files, Mode: mode,
		}, told(progress))
		return j, err
	})
	if err != nil {
		return plugin.Resumed{}, err
	}
	return plugin.Resumed{Job: h, Bytes: r.Bytes, Took: r.Took, Notes: r.Notes}, nil
}

// launch opens what a job inherits, and begins it in the mode that is asked for, or
// in the first that the host allows.
func (p *Provider) launch(m memo, streams plugin.Streams, hold plugin.Stream, mode string, begin func(engine.Streams, *os.File, string) (*engine.Job, error)) (plugin.Handle, error) {
	if !filepath.IsAbs(m.StateDir) {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "the state directory %q is not an absolute path", m.StateDir)
	}
	files, err := streams.Open()
	if err != nil {
		return plugin.Handle{}, wrap(err)
	}
	defer plugin.CloseAll(files[:]...)
	var held *os.File
	if hold != "" {
		if held, err = plugin.OpenStream(hold, true); err != nil {
			return plugin.Handle{}, wrap(err)
		}
		defer held.Close()
	}
	alone := p.jobs.Idle()
	if err := ordered(mode, alone); err != nil {
		return plugin.Handle{}, err
	}
	m.Mode = or(mode, engine.ModeNamespace)
	j, err := begin(files, held, m.Mode)
	var forbidden *engine.NoNamespacesError
	if mode == "" && alone && errors.As(err, &forbidden) {
		m.Mode = engine.ModeShim
		j, err = begin(files, held, m.Mode)
	}
	if err != nil {
		return plugin.Handle{}, wrap(err)
	}
	if stat, err := procfs.ReadStat(j.InitPid, 0); err == nil {
		m.InitStart = stat.Starttime
	}
	p.add(&job{Job: j, memo: m})
	return m.handle(j.InitPid), nil
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// ordered refuses what cannot be beside the jobs that there are: the numbers of a
// job in shim mode are a table of the whole process.
func ordered(mode string, alone bool) error {
	switch {
	case mode != "" && mode != engine.ModeNamespace && mode != engine.ModeShim:
		return plugin.Errorf(plugin.Usage, "", "mode %q is neither namespace nor shim", mode)
	case !alone && (mode == engine.ModeShim || ids.Shim()):
		return plugin.Errorf(plugin.Busy, "start another esky-provider for it", "a job in shim mode cannot be one of several of the same provider process")
	}
	return nil
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
	if err := ordered(m.Mode, p.jobs.Idle()); err != nil {
		return err
	}
	stat, err := procfs.ReadStat(h.Pid, 0)
	if err != nil || stat.Starttime != m.InitStart || stat.State == 'Z' {
		return p.recoverEnded(h.Pid, m)
	}
	j, err := engine.Attach(h.Pid, m.statusPath())
	if err != nil {
		return wrap(err)
	}
	p.add(&job{Job: j, memo: m})
	return nil
}

// recoverEnded remembers a job that has ended while nobody was there.
func (p *Provider) recoverEnded(pid int, m memo) error {
	exit, err := engine.LastExit(m.statusPath())
	if err != nil {
		return wrap(err)
	}
	j := &job{Job: &engine.Job{InitPid: pid}, memo: m, ended: make(chan struct{}), exit: exit}
	close(j.ended)
	p.jobs.Add(pid, j)
	return nil
}

// preload puts the preload library beside the job's state, where all hosts of the
// job find it.
func preload(env []string, stateDir, mode, statusPath string) ([]string, error) {
	dir := filepath.Join(stateDir, ".lib")
	if engine.NoPreload(env) || !engine.Preloadable(dir) {
		return env, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lib, err := shim.Install(dir)
	if err != nil {
		return nil, err
	}
	return engine.WithPreload(env, lib, mode, statusPath)
}

// temporaryOf keeps of an environment what says where temporary files are
// (jobfiles.Scratch).
func temporaryOf(env []string) []string {
	var kept []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "TMPDIR", "ESKY_SCRATCH", "SLURM_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID":
			kept = append(kept, kv)
		}
	}
	return kept
}
