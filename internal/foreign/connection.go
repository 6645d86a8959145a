// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"os"
	"sync"

	"github.com/esky-hpc/esky/plugin"
)

// connection is a provider that a job has. The process of a plugin may end at any
// time; then the next call starts another one, which recovers the job.
type connection struct {
	cfg  Config
	lock *os.File // to be held by the job

	mu     sync.Mutex
	proc   *plugin.Plugin
	handle *plugin.Handle // of the job, once it runs
	closed bool
}

func newConnection(cfg Config, lock *os.File) *connection {
	return &connection{cfg: cfg, lock: lock}
}

// Descriptors of a plugin: our standard streams, which become those of its jobs,
// and the lock.
const (
	stdinFD = 3 + iota
	stdoutFD
	stderrFD
	holdFD
)

// streams says where the job's standard streams are, as the provider counts.
func (c *connection) streams() plugin.Streams {
	if c.cfg.Builtin != nil {
		return plugin.Streams{Stdin: plugin.Descriptor(0), Stdout: plugin.Descriptor(1), Stderr: plugin.Descriptor(2)}
	}
	return plugin.Streams{Stdin: plugin.Descriptor(stdinFD), Stdout: plugin.Descriptor(stdoutFD), Stderr: plugin.Descriptor(stderrFD)}
}

func (c *connection) hold() plugin.Stream {
	switch {
	case c.lock == nil:
		return ""
	case c.cfg.Builtin != nil:
		return plugin.Descriptor(int(c.lock.Fd()))
	}
	return plugin.Descriptor(holdFD)
}

// session is a provider with the process that it lives in, nil if that is this one.
type session struct {
	plugin.Provider
	proc *plugin.Plugin
}

// begin starts the provider for a new job, and asks whether it can work here.
func (c *connection) begin(ctx context.Context) (*session, error) {
	p, err := c.provider(ctx)
	if err != nil {
		return nil, monitorError(err)
	}
	r, err := p.Probe(ctx, plugin.ProbeOptions{})
	if err == nil && !r.Usable {
		err = unusable(c.cfg.Name, r)
	}
	if err != nil {
		c.close()
		return nil, monitorError(err)
	}
	return p, nil
}

func unusable(name string, r plugin.ProbeReport) error {
	e := plugin.Errorf(plugin.Host, "", "provider %s cannot work on this host", name)
	sep := ": "
	for _, f := range r.Findings {
		if f.Fatal {
			e.Text += sep + f.Text
			if e.Hint == "" {
				e.Hint = f.Remedy
			}
			sep = "; "
		}
	}
	return e
}

// provider returns the living provider. One that has ended is started again.
func (c *connection) provider(ctx context.Context) (*session, error) {
	if c.cfg.Builtin != nil {
		return c.builtin(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, plugin.Errorf(plugin.Ended, "", "the job has ended")
	}
	if c.proc != nil {
		select {
		case <-c.proc.Done():
			c.proc.Close()
			c.proc = nil
		default:
			return &session{c.proc.Provider(), c.proc}, nil
		}
	}
	return c.open(ctx)
}

// open starts the plugin. The mutex is held.
func (c *connection) open(ctx context.Context) (*session, error) {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if c.lock != nil && c.handle == nil { // afterwards the job has it
		files = append(files, c.lock)
	}
	proc, err := plugin.Open(plugin.HostConfig{
		Found: c.cfg.Found, Streams: files, Silence: c.cfg.Silence, Answer: c.cfg.Silence,
		Log: func(line string) { c.cfg.Say(c.cfg.Name + ": " + line) },
	})
	if err != nil {
		return nil, err
	}
	p := proc.Provider()
	if c.handle != nil {
		err = p.Recover(ctx, *c.handle)
	} else {
		_, err = p.Describe(ctx)
	}
	if err != nil {
		proc.Kill()
		return nil, err
	}
	c.proc = proc
	return &session{p, proc}, nil
}

// builtin is the provider in this process: it has to recover a job that another
// monitor started.
func (c *connection) builtin(ctx context.Context) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle == nil {
		return &session{c.cfg.Builtin, nil}, nil
	}
	return &session{c.cfg.Builtin, nil}, c.cfg.Builtin.Recover(ctx, *c.handle)
}

// started says that there is a job now.
func (c *connection) started(h plugin.Handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handle = &h
}

// broken ends the plugin if an error of its says that it cannot be relied upon any
// more.
func (c *connection) broken(s *session, err error) {
	if err == nil || plugin.KindOf(err) != plugin.Broken || s == nil || s.proc == nil {
		return
	}
	c.mu.Lock()
	if c.proc == s.proc { // else another one has taken its place
		c.proc = nil
	}
	c.mu.Unlock()
	s.proc.Kill()
}

// close ends the plugin. The job, if there is one, is not touched.
func (c *connection) close() {
	c.mu.Lock()
	proc := c.proc
	c.proc, c.closed = nil, true
	c.mu.Unlock()
	if proc != nil {
		proc.Close()
	}
}
