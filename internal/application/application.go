// SPDX-License-Identifier: Apache-2.0

// Package application is a provider for programs that checkpoint themselves: they are
// asked for a checkpoint by a signal, a file or a command, and started again from it
// by a command line. What belongs to the checkpoint is copied into the image.
//
// config.go       what a user says of a program
// application.go  the provider: start, resume, images
// trade.go        in the keeper: start the program, and start it again
// checkpoint.go   in the keeper: ask, wait, stand still
// files.go        in the keeper: which files are a checkpoint, and copying them
// tee.go          in the keeper: watching the output
// image.go        what an image is
package application

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// Name is that of the provider.
const Name = "application"

// Provider implements plugin.Provider.
type Provider struct {
	keeper.Jobs
	version string
}

// New makes a provider.
func New(version string) *Provider {
	return &Provider{keeper.NewJobs(Name), version}
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

// Start implements plugin.Provider.
func (p *Provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "there is no program to start")
	}
	c, err := readConfig(o.Options, o.Dir)
	if err != nil {
		return plugin.Handle{}, err
	}
	return p.Launch(keeper.Spec{Command: o.Argv, Env: o.Env, Dir: o.Dir, StateDir: o.StateDir}, own{o.Argv, c}, o.Streams, o.Hold)
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
		return plugin.Resumed{}, keeper.AsError(err)
	}
	h, err := p.Launch(keeper.Spec{Command: m.Command, Env: o.Env, Dir: m.Dir, StateDir: o.StateDir}, own{m.Config.restart(m.Command, m.File), m.Config}, o.Streams, o.Hold)
	if err != nil {
		return plugin.Resumed{}, err
	}
	return plugin.Resumed{Job: h, Bytes: m.bytes(), Took: time.Since(began), Notes: notes}, nil
}

// Images implements plugin.Provider.
func (p *Provider) Images(_ context.Context, dir string) ([]plugin.Image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, keeper.AsError(err)
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
		return keeper.AsError(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return keeper.AsError(err)
	}
	return nil
}
