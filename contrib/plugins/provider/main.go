// SPDX-License-Identifier: Apache-2.0

// This is a whole provider, to begin from: for programs that save themselves. Such a
// program writes what it needs to the file $STATE when it gets SIGUSR1 (under another
// name, then by a rename), and begins from $STATE if that is there.
//
//	go build -o plugins/esky-provider-example ./contrib/plugins/provider
//	ESKY_PLUGIN_PATH=$PWD/plugins esky-wrap run --provider example -- ./program
package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

func main() { plugin.Serve(plugin.ServeConfig{Provider: provider{}}) }

// provider has its jobs and its images from package plugin; what is its own is how a
// job is saved and brought back.
type provider struct {
	plugin.Processes
	plugin.PlainImages
}

func (provider) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Name: "example", Version: "1", State: []string{"what the program itself writes"},
		Capabilities: []string{plugin.CanRunOn, plugin.CanMigrate}}, nil
}

func (provider) Probe(context.Context, plugin.ProbeOptions) (plugin.ProbeReport, error) {
	return plugin.ProbeReport{Usable: true}, nil
}

func (p provider) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	_ = os.Remove(filepath.Join(o.StateDir, "STATE"))
	b, err := json.Marshal(o) // how to start it again
	if err == nil {
		err = os.WriteFile(filepath.Join(o.StateDir, "START"), b, 0o600)
	}
	if err != nil {
		return plugin.Handle{}, err
	}
	o.Env = append(o.Env, "STATE="+filepath.Join(o.StateDir, "STATE"))
	return p.Launch("example", o)
}

func (p provider) Checkpoint(ctx context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	state := filepath.Join(p.StateDir(h), "STATE")
	_ = os.Remove(state)
	if err := p.Signal(ctx, h, syscall.SIGUSR1, false); err != nil {
		return plugin.Image{}, err
	}
	for progress(plugin.Progress{Phase: "wait"}); p.Runs(h) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(state); err == nil {
			return plugin.Seal(o.Dir, state, filepath.Join(p.StateDir(h), "START"))
		}
	}
	return plugin.Image{}, plugin.Errorf(plugin.Ended, "", "the job has ended, or the wait for it has")
}

func (p provider) Finish(ctx context.Context, h plugin.Handle, end bool) error {
	if !end {
		return nil // it runs
	}
	return p.Signal(ctx, h, syscall.SIGKILL, true)
}

func (p provider) Resume(ctx context.Context, o plugin.ResumeOptions, _ func(plugin.Progress)) (plugin.Resumed, error) {
	i, err := p.VerifyImage(ctx, o.Dir)
	if err != nil {
		return plugin.Resumed{}, err
	}
	var start plugin.StartOptions
	b, err := os.ReadFile(filepath.Join(o.Dir, "START"))
	if err == nil {
		err = json.Unmarshal(b, &start)
	}
	if err == nil {
		err = plugin.CopyFiles(o.StateDir, filepath.Join(o.Dir, "START"), filepath.Join(o.Dir, "STATE"))
	}
	if err != nil {
		return plugin.Resumed{}, err
	}
	start.Streams, start.Hold, start.StateDir = o.Streams, o.Hold, o.StateDir
	start.Env = append(start.Env, "STATE="+filepath.Join(o.StateDir, "STATE"))
	h, err := p.Launch("example", start)
	return plugin.Resumed{Job: h, Bytes: i.Bytes}, err
}
