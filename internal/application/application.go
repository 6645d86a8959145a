// SPDX-License-Identifier: Apache-2.0

// Package application is a provider for programs that checkpoint themselves: they are
// asked for a checkpoint by a signal, a file or a command, and started again from it
// by a command line. What belongs to the checkpoint is copied into the image.
//
// config.go       what a user says of a program
// application.go  the provider, which any process may be
// start.go        start, resume, take over
// keeper.go       the process that a job descends from: it lives as long as the job
// talk.go         what provider and keeper say to each other
// checkpoint.go   in the keeper: ask, wait, stand still
// files.go        in the keeper: which files are a checkpoint, and copying them
// tee.go          in the keeper: watching the output
// image.go        what an image is
//
// Only the keeper has state, so that a provider may die at any time.
package application

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/plugin"
)

// Name is that of the provider.
const Name = "application"

// Provider implements plugin.Provider.
type Provider struct {
	version string
	jobs    plugin.Jobs[*job] // a handle's pid is that of the keeper
}

// New makes a provider.
func New(version string) *Provider {
	return &Provider{version: version, jobs: plugin.Jobs[*job]{Provider: Name, Version: memoVersion}}
}

// job is a job as a provider knows it.
type job struct {
	pid   int
	memo  memo
	ended chan struct{} // closed when exit and err are set
	exit  plugin.Exit
	err   error

	mu    sync.Mutex
	still *conversation // of a checkpoint that waits for Finish
}

// Describe implements plugin.Provider.
func (p *Provider) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Name: Name, Version: p.version,
		Capabilities: []string{plugin.CanRunOn, plugin.CanStandStill, plugin.CanMigrate, plugin.CanVerify},
		State:        []string{"what the program saves by itself"},
	}, nil
}

// Probe implements plugin.Provider.
func (p *Provider) Probe(_ context.Context, o plugin.ProbeOptions) (plugin.ProbeReport, error) {
	r := plugin.ProbeReport{Usable: true}
	if o.StateDir != "" && unix.Access(o.StateDir, unix.W_OK|unix.X_OK) != nil {
		r.Usable = false
		r.Findings = append(r.Findings, plugin.Finding{Fatal: true, Text: o.StateDir + " cannot be written", Remedy: "a directory of yours"})
	}
	return r, nil
}

// Gone is closed when the job has ended.
func (j *job) Gone() <-chan struct{} { return j.ended }

// conversation is one with a keeper.
type conversation struct {
	conn *net.UnixConn
	in   *json.Decoder
}

// say begins a conversation. It ends with ctx.
func (j *job) say(ctx context.Context, r request) (*conversation, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: j.memo.Socket, Net: "unix"})
	if err != nil {
		return nil, plugin.Errorf(plugin.Ended, "", "the job has ended")
	}
	cred, err := peer(conn)
	if err == nil && int(cred.Pid) != j.pid {
		err = fmt.Errorf("process %d answers for the job of process %d", cred.Pid, j.pid)
	}
	if err == nil {
		err = json.NewEncoder(conn).Encode(r)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &conversation{conn, json.NewDecoder(conn)}, nil
}

// listen reads answers until one has what is waited for.
func (c *conversation) listen(ctx context.Context, progress func(plugin.Progress)) (answer, error) {
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	for {
		var a answer
		err := c.in.Decode(&a)
		switch {
		case ctx.Err() != nil:
			return a, ctx.Err()
		case err != nil:
			return a, plugin.Errorf(plugin.Ended, "", "the job has ended")
		case a.Err != nil:
			return a, a.Err
		case a.Progress != nil:
			progress(*a.Progress)
		default:
			return a, nil
		}
	}
}

// Checkpoint implements plugin.Provider.
func (p *Provider) Checkpoint(ctx context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	j, err := p.jobs.Running(h)
	if err != nil {
		return plugin.Image{}, err
	}
	o.Options = nil
	c, err := j.say(ctx, request{Checkpoint: &o})
	if err != nil {
		return plugin.Image{}, err
	}
	a, err := c.listen(ctx, progress)
	if err == nil && a.Image == nil {
		err = fmt.Errorf("the keeper of the job tells of no image")
	}
	if err != nil {
		c.conn.Close()
		return plugin.Image{}, err
	}
	if o.Stop {
		j.mu.Lock()
		j.still = c
		j.mu.Unlock()
		return *a.Image, nil
	}
	defer c.conn.Close()
	_, err = c.listen(ctx, progress)
	return *a.Image, err
}

// Finish implements plugin.Provider.
func (p *Provider) Finish(ctx context.Context, h plugin.Handle, end bool) error {
	j, err := p.jobs.Find(h)
	if err != nil {
		return err
	}
	j.mu.Lock()
	c := j.still
	j.still = nil
	j.mu.Unlock()
	if c == nil {
		return plugin.Errorf(plugin.Usage, "", "the job does not stand still after a checkpoint")
	}
	defer c.conn.Close()
	if err := json.NewEncoder(c.conn).Encode(request{Finish: &finishRequest{End: end}}); err != nil {
		return plugin.Errorf(plugin.Ended, "", "the job has ended")
	}
	_, err = c.listen(ctx, func(plugin.Progress) {})
	if !end {
		return err
	}
	select {
	case <-j.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Signal implements plugin.Provider.
func (p *Provider) Signal(ctx context.Context, h plugin.Handle, sig syscall.Signal, all bool) error {
	j, err := p.jobs.Running(h)
	if err != nil {
		return err
	}
	c, err := j.say(ctx, request{Signal: &signalRequest{sig, all}})
	if err != nil {
		return err
	}
	defer c.conn.Close()
	_, err = c.listen(ctx, func(plugin.Progress) {})
	return err
}

// Wait implements plugin.Provider.
func (p *Provider) Wait(ctx context.Context, h plugin.Handle) (plugin.Exit, error) {
	j, err := p.jobs.Find(h)
	if err != nil {
		return plugin.Exit{}, err
	}
	select {
	case <-ctx.Done():
		return plugin.Exit{}, ctx.Err()
	case <-j.ended:
		return j.exit, j.err
	}
}

// Images implements plugin.Provider.
func (p *Provider) Images(_ context.Context, dir string) ([]plugin.Image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, asError(err)
	}
	var all []plugin.Image
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name()[0] == '.' {
			continue
		}
		if m, err := readManifest(path); err == nil {
			all = append(all, m.plugin(path))
		}
	}
	slices.SortStableFunc(all, func(a, b plugin.Image) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// DescribeImage implements plugin.Provider.
func (p *Provider) DescribeImage(_ context.Context, dir string) (plugin.Image, error) {
	m, err := readManifest(dir)
	if err != nil {
		return plugin.Image{}, err
	}
	return m.plugin(dir), nil
}

// VerifyImage implements plugin.Provider.
func (p *Provider) VerifyImage(ctx context.Context, dir string) (plugin.Image, error) {
	m, err := readManifest(dir)
	if err == nil {
		err = m.verify(ctx, dir)
	}
	if err != nil {
		return plugin.Image{}, err
	}
	return m.plugin(dir), nil
}

// RemoveImage implements plugin.Provider: what makes it an image goes first.
func (p *Provider) RemoveImage(_ context.Context, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, manifestName)); err != nil {
		return plugin.Errorf(plugin.NotFound, "", "there is no complete image in %s", dir)
	}
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil {
		return asError(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return asError(err)
	}
	return nil
}
