// SPDX-License-Identifier: Apache-2.0

// Package native is our own engine as a provider: what package monitor does with
// package engine inside esky-wrap, other programs do with it through package
// plugin. cmd/esky-provider serves it.
//
// native.go  the provider and its jobs
// start.go   jobs that begin: start, resume, recover
// save.go    checkpoints
// images.go  images, which need no job
// asks.go    programs that ask for checkpoints
// errors.go  errors of the engine as those of a plugin
package native

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/plugin"
)

// Name of the provider.
const Name = "native"

// Options that Start, Checkpoint and Resume understand.
const (
	OptionMode     = "mode"     // namespace or shim; default: namespace where the host allows it
	OptionCompress = "compress" // none, s2 or zstd[:LEVEL]
)

// Provider implements plugin.Provider.
type Provider struct {
	version string
	jobs    plugin.Jobs[*job]
}

// New returns a provider without jobs. main has called engine.WorkerMain.
func New(version string) *Provider {
	return &Provider{version: version, jobs: plugin.Jobs[*job]{Provider: Name, Version: memoVersion}}
}

// job is a job that runs, or has ended while we watched.
type job struct {
	*engine.Job
	memo memo

	ended  chan struct{} // closed when exit and err are set
	exit   engine.Exit
	err    error
	wanted chan struct{} // a program asks for a checkpoint

	saving sync.Mutex // held from the beginning of a checkpoint to its end, or to Finish
	mu     sync.Mutex
	frozen *engine.Checkpoint // stands still until Finish
}

// add keeps a job and watches it.
func (p *Provider) add(j *job) {
	j.ended, j.wanted = make(chan struct{}), make(chan struct{})
	p.jobs.Add(j.InitPid, j)
	go func() {
		j.exit, j.err = j.Wait()
		close(j.ended)
	}()
	go j.listen()
}

// Gone is closed when the job has ended.
func (j *job) Gone() <-chan struct{} { return j.ended }

// Describe implements plugin.Provider.
func (p *Provider) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{
		Name: Name, Version: p.version,
		Capabilities: []string{plugin.CanRunOn, plugin.CanStandStill, plugin.CanMigrate, plugin.CanVerify, plugin.CanRequest},
		State: []string{
			"processes and threads, with their ids", "memory", "open files, pipes, sockets inside the job",
			"signals and timers", "System V objects and message queues", "pseudo-terminals",
		},
	}, nil
}

// Probe implements plugin.Provider.
func (p *Provider) Probe(_ context.Context, o plugin.ProbeOptions) (plugin.ProbeReport, error) {
	r := plugin.ProbeReport{Usable: true}
	if runtime.GOARCH != "amd64" {
		r.Usable = false
		r.Findings = append(r.Findings, plugin.Finding{Fatal: true, Text: "this is " + runtime.GOARCH, Remedy: "a host with x86-64"})
	}
	for _, c := range host.Probe() {
		if c.OK {
			continue
		}
		r.Usable = r.Usable && !c.Needed
		r.Findings = append(r.Findings, plugin.Finding{Fatal: c.Needed, Text: c.Name + ": " + c.Detail, Remedy: c.Fix})
	}
	if o.StateDir != "" && unix.Access(o.StateDir, unix.W_OK|unix.X_OK) != nil {
		r.Usable = false
		r.Findings = append(r.Findings, plugin.Finding{Fatal: true, Text: o.StateDir + " cannot be written", Remedy: "a directory of yours"})
	}
	return r, nil
}

// Signal implements plugin.Provider.
func (p *Provider) Signal(_ context.Context, h plugin.Handle, sig syscall.Signal, all bool) error {
	j, err := p.jobs.Running(h)
	if err != nil {
		return err
	}
	switch {
	case all && sig == unix.SIGKILL:
		err = j.Kill()
	case all:
		err = signalAll(j.InitPid, sig)
	default:
		err = j.Signal(sig)
	}
	if err == unix.ESRCH {
		return plugin.Errorf(plugin.Ended, "", "the job has no main process any more")
	}
	return wrap(err)
}

func signalAll(init int, sig syscall.Signal) error {
	pids, err := freeze.Descendants(init)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return os.NewSyscallError(fmt.Sprintf("kill %d", pid), err)
		}
	}
	return nil
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
	}
	if j.err != nil {
		return plugin.Exit{}, wrap(j.err)
	}
	return plugin.Exit{Code: j.exit.Code, Signal: j.exit.Signal}, nil
}
