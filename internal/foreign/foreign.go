// SPDX-License-Identifier: Apache-2.0

// Package foreign lets the monitor run jobs of any plugin.Provider: it is a
// monitor.Engine. Store, images, verification, requeueing and status are the same
// as for jobs of our own engine; what the provider writes becomes the saved files of
// an image of ours.
//
// foreign.go     the engine: start, resume, take over
// connection.go  the provider: in this process, or a plugin that may die and come back
// job.go         a running job
// asks.go        programs of it that ask for checkpoints
// image.go       what a provider wrote, as an image and back
// errors.go      errors of a provider as the monitor knows them
//
// A plugin that dies, hangs or answers nonsense costs a checkpoint, never the job:
// it is ended, and started again when it is needed.
package foreign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/plugin"
)

// Config says which provider, and how to reach it.
type Config struct {
	Name    string          // as the user wrote it
	Builtin plugin.Provider // in this process; nil: the plugin Found
	Found   plugin.Found
	Options map[string]string
	Silence time.Duration     // how long a plugin may go without a word of progress; 0: as package plugin has it
	Say     func(text string) // tells the user what happens to the plugin
}

// known is the name under which the provider can be found again.
func (c Config) known() string {
	if c.Builtin == nil {
		return c.Found.Name
	}
	return c.Name
}

// Engine implements monitor.Engine.
type Engine struct{ cfg Config }

// New makes an engine. Nothing is started yet.
func New(cfg Config) *Engine { return &Engine{cfg} }

// Start implements monitor.Engine.
func (e *Engine) Start(o engine.StartOptions) (monitor.Job, error) {
	ctx := context.Background()
	state, err := stateDir(o.StatusPath)
	if err != nil {
		return nil, err
	}
	c := newConnection(e.cfg, o.Lock)
	p, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	h, err := p.Start(ctx, plugin.StartOptions{
		Argv: o.Argv, Env: o.Env, Dir: o.Dir, Streams: c.streams(), StateDir: state, Hold: c.hold(), Options: e.cfg.Options,
	})
	return e.begun(c, h, o.StatusPath, err)
}

// Resume implements monitor.Engine.
func (e *Engine) Resume(ctx context.Context, o engine.ResumeOptions, progress func(engine.Progress)) (monitor.Job, *engine.ResumeReport, error) {
	state, err := stateDir(o.StatusPath)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(filepath.Dir(o.StatusPath), resumedDir)
	if err := e.cfg.unpack(ctx, o.Image, dir, progress); err != nil {
		return nil, nil, err
	}
	c := newConnection(e.cfg, o.Lock)
	p, err := c.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, err := p.Resume(ctx, plugin.ResumeOptions{
		Dir: dir, StateDir: state, Streams: c.streams(), Hold: c.hold(), Files: o.Files, Options: e.cfg.Options, Env: os.Environ(),
	}, func(s plugin.Progress) { progress(engine.Progress(s)) })
	j, err := e.begun(c, r.Job, o.StatusPath, named(err, dir, o.Image))
	if err != nil {
		return nil, nil, err
	}
	return j, &engine.ResumeReport{Took: r.Took, Bytes: r.Bytes, Notes: r.Notes}, nil
}

// begun makes a job of a handle, and remembers it for a monitor that takes over.
func (e *Engine) begun(c *connection, h plugin.Handle, statusPath string, err error) (monitor.Job, error) {
	if err == nil {
		err = checkPid(e.cfg.Name, h)
	}
	if err != nil {
		c.close()
		return nil, monitorError(err)
	}
	c.started(h)
	j := newJob(c, h, filepath.Dir(statusPath))
	b, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(handlePath(statusPath), b, 0o600)
	}
	if err != nil {
		_ = j.Kill()
		c.close()
		return nil, fmt.Errorf("remember the job: %w", err)
	}
	return j, nil
}

// checkPid refuses a process that cannot be a job's: the monitor would kill it.
func checkPid(name string, h plugin.Handle) error {
	fi, err := os.Stat(fmt.Sprintf("/proc/%d", h.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a short job has ended already
	}
	if err != nil || h.Pid == os.Getpid() || h.Pid == os.Getppid() || os.Getuid() != 0 && ownerOf(fi) != os.Getuid() && ownerOf(fi) != 0 {
		return plugin.Errorf(plugin.Broken, "tell the author of the plugin", "provider %s answers nonsense: process %d is not that of a job", name, h.Pid)
	}
	return nil
}

// Attach implements monitor.Engine.
func (e *Engine) Attach(_ int, statusPath string) (monitor.Job, error) {
	b, err := os.ReadFile(handlePath(statusPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &monitor.Error{Code: monitor.ExitCannot, Hint: "take it over without --provider", Err: fmt.Errorf("the job is not one of provider %s", e.cfg.Name)}
	}
	if err != nil {
		return nil, fmt.Errorf("take over the job: %w", err)
	}
	var h plugin.Handle
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("take over the job: read %s: %w", handlePath(statusPath), err)
	}
	c := newConnection(e.cfg, nil)
	c.started(h)
	if _, err := c.provider(context.Background()); err != nil {
		return nil, monitorError(err)
	}
	return newJob(c, h, filepath.Dir(statusPath)), nil
}

func handlePath(statusPath string) string { return statusPath + ".handle" }

// resumedDir is where a provider finds the image that it resumes.
const resumedDir = ".resumed"

// stateDir is what a provider has to itself in the store of a job.
func stateDir(statusPath string) (string, error) {
	dir := filepath.Join(filepath.Dir(statusPath), "provider")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the provider's directory: %w", err)
	}
	return dir, nil
}
