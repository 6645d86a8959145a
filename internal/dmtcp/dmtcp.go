// SPDX-License-Identifier: Apache-2.0

// Package dmtcp is a provider for sites that have DMTCP, by its three programs:
// dmtcp_launch, dmtcp_command and dmtcp_restart.
//
// dmtcp.go   the provider: start, resume
// probe.go   whether DMTCP works here, by trying
// trade.go   in the keeper: start the program, make checkpoints, resume
// tool.go    the command lines
//
// Each job has a coordinator of its own, which dmtcp_launch or dmtcp_restart starts,
// on a port that nobody else has, and which ends with the job.
package dmtcp

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// Name is that of the provider.
const Name = "dmtcp"

// Provider implements plugin.Provider.
type Provider struct {
	keeper.Jobs
	plugin.PlainImages
	version string

	mu     sync.Mutex
	tested bool  // DMTCP was tried, with this
	result error // result
}

// New makes a provider.
func New(version string) *Provider { return &Provider{Jobs: keeper.NewJobs(Name), version: version} }

// Describe implements plugin.Provider.
func (p *Provider) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Name: Name, Version: p.version,
		Capabilities: []string{plugin.CanRunOn, plugin.CanStandStill, plugin.CanMigrate, plugin.CanVerify},
		State:        []string{"what DMTCP saves of programs that are linked dynamically: memory, threads, open files, sockets inside the job"},
	}, nil
}

// job is what an image has besides what DMTCP writes, in a file of this name.
type job struct {
	Command []string
	Dir     string
	Host    *imagepb.Host
}

const jobName = "job.json"

// Start implements plugin.Provider.
func (p *Provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	if len(o.Argv) == 0 || o.Argv[0] == "" {
		return plugin.Handle{}, plugin.Errorf(plugin.Usage, "", "there is no program to start")
	}
	t, err := find(o.Options)
	if err != nil {
		return plugin.Handle{}, err
	}
	return p.Launch(keeper.Spec{Command: o.Argv, Env: o.Env, Dir: o.Dir, StateDir: o.StateDir}, own{Tools: t}, o.Streams, o.Hold)
}

// Resume implements plugin.Provider.
func (p *Provider) Resume(ctx context.Context, o plugin.ResumeOptions, _ func(plugin.Progress)) (plugin.Resumed, error) {
	began := time.Now()
	if o.Files != "" && o.Files != "rollback" {
		return plugin.Resumed{}, plugin.Errorf(plugin.Usage, "resume with files rollback", "DMTCP always puts files back to the size that they had, as rollback does, not %q", o.Files)
	}
	t, err := find(o.Options)
	if err != nil {
		return plugin.Resumed{}, err
	}
	i, err := p.VerifyImage(ctx, o.Dir)
	if err != nil {
		return plugin.Resumed{}, err
	}
	var j job
	b, err := os.ReadFile(filepath.Join(o.Dir, jobName))
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		return plugin.Resumed{}, err
	}
	if bad := host.Match(j.Host); len(bad) > 0 { // DMTCP does not look: the program would die
		return plugin.Resumed{}, plugin.Errorf(plugin.Host, "resume it on a host like the one before", "%s", bad[0])
	}
	h, err := p.Launch(keeper.Spec{Command: j.Command, Env: o.Env, Dir: j.Dir, StateDir: o.StateDir}, own{Tools: t, Image: o.Dir}, o.Streams, o.Hold)
	if err != nil {
		return plugin.Resumed{}, err
	}
	return plugin.Resumed{Job: h, Bytes: i.Bytes, Took: time.Since(began)}, nil
}
