// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/esky-hpc/esky/plugin"
)

// Jobs are the jobs of a provider, which embeds it: it has the calls of
// plugin.Provider that are about running jobs. A handle's pid is that of the keeper.
type Jobs struct {
	jobs plugin.Jobs[*job]
}

// NewJobs makes the jobs of the provider of this name.
func NewJobs(name string) Jobs {
	return Jobs{plugin.Jobs[*job]{Provider: name, Version: memoVersion}}
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

// Gone is closed when the job has ended.
func (j *job) Gone() <-chan struct{} { return j.ended }

// conversation is one with a keeper.
type conversation struct {
	conn *net.UnixConn
	in   *json.Decoder
}

// say begins a conversation.
func (j *job) say(r request) (*conversation, error) {
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
func (p *Jobs) Checkpoint(ctx context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	j, err := p.jobs.Running(h)
	if err != nil {
		return plugin.Image{}, err
	}
	o.Options = nil
	c, err := j.say(request{Checkpoint: &o})
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
func (p *Jobs) Finish(ctx context.Context, h plugin.Handle, end bool) error {
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
func (p *Jobs) Signal(ctx context.Context, h plugin.Handle, sig syscall.Signal, all bool) error {
	j, err := p.jobs.Running(h)
	if err != nil {
		return err
	}
	c, err := j.say(request{Signal: &signalRequest{sig, all}})
	if err != nil {
		return err
	}
	defer c.conn.Close()
	_, err = c.listen(ctx, func(plugin.Progress) {})
	return err
}

// Wait implements plugin.Provider.
func (p *Jobs) Wait(ctx context.Context, h plugin.Handle) (plugin.Exit, error) {
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
