// SPDX-License-Identifier: Apache-2.0

// Package criu is a provider for sites and containers where criu may be used: it has
// the privileges, and esky the rest.
//
// criu.go    the provider: start, resume
// probe.go   whether criu works here, by trying
// trade.go   in the keeper: start the program, make checkpoints, resume
// tool.go    calling criu, and what it says when it fails
// image.go   what is in an image besides what criu writes
//
// A job is a session of its own below its keeper. criu makes its processes again as
// children of the new keeper, with the numbers that they had.
package criu

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// Name is that of the provider.
const Name = "criu"

// Provider implements plugin.Provider.
type Provider struct {
	keeper.Jobs
	plugin.PlainImages
	version string

	mu     sync.Mutex
	tested bool  // criu was tried, with this
	result error // result
}

// New makes a provider.
func New(version string) *Provider { return &Provider{Jobs: keeper.NewJobs(Name), version: version} }

// Describe implements plugin.Provider.
func (p *Provider) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Name: Name, Version: p.version,
		Capabilities: []string{plugin.CanRunOn, plugin.CanStandStill, plugin.CanMigrate, plugin.CanVerify},
		State: []string{
			"what criu saves: processes and threads, with their ids", "memory", "open files, pipes, sockets inside the job",
			"signals and timers", "file locks", "pseudo-terminals",
		},
	}, nil
}

// Start implements plugin.Provider.
func (p *Provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "there is no program to start")
	}
	t, err := find(o.Options)
	if err != nil {
		return plugin.Handle{}, err
	}
	return p.Launch(keeper.Spec{Command: o.Argv, Env: o.Env, Dir: o.Dir, StateDir: o.StateDir}, own{Tool: t}, o.Streams, o.Hold)
}

// Resume implements plugin.Provider.
func (p *Provider) Resume(ctx context.Context, o plugin.ResumeOptions, _ func(plugin.Progress)) (plugin.Resumed, error) {
	began := time.Now()
	if !slices.Contains([]string{"", "rollback", "accept", "strict"}, o.Files) {
		return plugin.Resumed{}, plugin.Errorf(plugin.Usage, "", "files %q is none of rollback, accept, strict", o.Files)
	}
	t, err := find(o.Options)
	if err != nil {
		return plugin.Resumed{}, err
	}
	i, err := p.VerifyImage(ctx, o.Dir)
	if err != nil {
		return plugin.Resumed{}, err
	}
	s, err := readState(o.Dir)
	if err != nil {
		return plugin.Resumed{}, err
	}
	if bad := host.Match(s.Host); len(bad) > 0 {
		return plugin.Resumed{}, plugin.Errorf(plugin.Host, "resume it on a host like the one before", "%s", bad[0])
	}
	if err := s.taken(); err != nil {
		return plugin.Resumed{}, err
	}
	notes, err := s.cutBack(o.Files)
	if err != nil {
		return plugin.Resumed{}, err
	}
	spec := keeper.Spec{Command: s.Command, Env: o.Env, Dir: s.Dir, StateDir: o.StateDir}
	for tries := 0; ; tries++ {
		h, err := p.Launch(spec, own{Tool: t, Image: o.Dir, Files: o.Files}, o.Streams, o.Hold)
		if err == nil {
			return plugin.Resumed{Job: h, Bytes: i.Bytes, Took: time.Since(began), Notes: notes}, nil
		}
		// It may have been the keeper itself that had got a number of the job.
		if plugin.KindOf(err) != plugin.Busy || tries == mostTries || s.taken() != nil {
			return plugin.Resumed{}, err
		}
	}
}

// mostTries is how often a resume is tried again.
const mostTries = 3

// kernel is this host's, for people.
func kernel() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // cannot fail (uname(2))
	return "Linux " + unix.ByteSliceToString(u.Release[:])
}
