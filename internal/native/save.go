// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/plugin"
)

// Checkpoint implements plugin.Provider.
func (p *Provider) Checkpoint(ctx context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	j, err := p.jobs.Running(h)
	if err != nil {
		return plugin.Image{}, err
	}
	codec, err := image.ParseCodec(or(o.Options[OptionCompress], "none"))
	if err != nil {
		return plugin.Image{}, plugin.Errorf(plugin.Usage, "", "%v", err)
	}
	if !j.saving.TryLock() {
		return plugin.Image{}, plugin.Errorf(plugin.Busy, "wait for it, or finish it", "a checkpoint of the job is under way")
	}
	c, err := engine.Save(ctx, engine.CheckpointOptions{
		Job: j.Job, Dir: o.Dir, Codec: codec, Stop: o.Stop, HoldLimit: o.Hold,
		Getenv: func(name string) string { return engine.Getenv(j.memo.Env, name) },
		Meta: &imagepb.Image{
			Job: Name, Generation: uint32(o.Generation), EskyVersion: p.version, Command: j.memo.Command, Cwd: j.memo.Dir,
		},
	}, told(progress))
	if err != nil || !o.Stop {
		j.saving.Unlock()
	}
	if err != nil {
		return plugin.Image{}, wrap(err)
	}
	if o.Stop {
		j.mu.Lock()
		j.frozen = c
		j.mu.Unlock()
	}
	return plugin.Image{
		Dir: o.Dir, Created: time.Now(), Bytes: c.Bytes, Pause: c.Pause, Took: c.Took, Notes: c.Notes, Command: j.memo.Command,
	}, nil
}

// Finish implements plugin.Provider.
func (p *Provider) Finish(_ context.Context, h plugin.Handle, end bool) error {
	j, err := p.jobs.Find(h)
	if err != nil {
		return err
	}
	j.mu.Lock()
	c := j.frozen
	j.frozen = nil
	j.mu.Unlock()
	if c == nil {
		return plugin.Errorf(plugin.Usage, "", "the job does not stand still after a checkpoint")
	}
	defer j.saving.Unlock()
	if err := c.Finish(end); err != nil {
		return wrap(err)
	}
	if end {
		<-j.ended
	}
	return nil
}

// told passes progress of the engine on.
func told(progress func(plugin.Progress)) func(engine.Progress) {
	return func(s engine.Progress) { progress(plugin.Progress(s)) }
}
