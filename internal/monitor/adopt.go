// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/store"
)

// AdoptConfig is what `esky-wrap adopt` asks for.
type AdoptConfig struct {
	Store    string
	Name     string // job key; empty: from the process
	Pid      int
	Stop     bool
	Cut      bool // see engine.AdoptOptions
	Keep     int
	Codec    image.Codec
	Version  string
	Reporter Reporter
}

// Adopted is an image of a job that was not started by esky.
type Adopted struct {
	Job        string        `json:"job"`
	Pid        int           `json:"pid"`
	Dir        string        `json:"dir"`
	Generation uint32        `json:"generation"`
	Bytes      int64         `json:"bytes"`
	Pause      time.Duration `json:"pause_ns"`
	Took       time.Duration `json:"took_ns"`
	Stopped    bool          `json:"stopped"`
}

// adoption is one run of Adopt.
type adoption struct {
	cfg   AdoptConfig
	who   *engine.Stranger
	key   string
	store *store.Store
	token store.Token
}

// Adopt checkpoints a process tree that was started without esky, into the store
// of a job that then can be resumed like any other. There is no monitor: the
// job knows nothing of it, and nobody stays with it.
func Adopt(ctx context.Context, cfg AdoptConfig) (*Adopted, error) {
	who, err := engine.Find(cfg.Pid)
	if err != nil {
		return nil, err
	}
	a := &adoption{cfg: cfg, who: who, key: cfg.Name}
	if a.key == "" {
		a.key = keyOf(who)
	}
	if a.store, err = store.Open(cfg.Store, a.key); err != nil {
		return nil, Fail(ExitNotWritable, "choose another place with --store or ESKY_STORE", "%w", err)
	}
	lock, err := a.store.TryLock()
	switch {
	case errors.Is(err, store.ErrLocked):
		return nil, Fail(ExitAgain, "choose another --name, or checkpoint that job with `esky-wrap checkpoint`", "%s is running under esky", a.key)
	case err != nil:
		return nil, Fail(ExitNotWritable, "choose another place with --store", "%w", err)
	}
	defer lock.Close()
	if err := a.mayGoOn(); err != nil {
		return nil, err
	}
	if a.token, err = a.store.Take(store.Holder{
		Host: hostname(), BootID: bootID(), MonitorPid: os.Getpid(), Started: time.Now(), Command: who.Command,
	}); err != nil {
		return nil, err
	}
	return a.save(ctx)
}

// keyOf makes a name for the job of a process, the same each time.
func keyOf(who *engine.Stranger) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(allowed, r) {
			return r
		}
		return '_'
	}, who.Comm)
	return fmt.Sprintf("%s-%d", name, who.Pid)
}

// mayGoOn refuses a name under which the store has something else: the images
// of one job must all be of that job.
func (a *adoption) mayGoOn() error {
	const hint = "choose another --name"
	if done, err := a.store.Done(); err != nil {
		return err
	} else if done != nil {
		return Fail(ExitCannot, hint, "the store has a job %s that has finished already, with status %d", a.key, done.Status)
	}
	gens, err := a.store.Generations()
	if err != nil || len(gens) == 0 {
		return err
	}
	r, err := image.Open(gens[0].Dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if !proto.Equal(r.Meta().GetOrigin(), a.who.Origin) {
		return Fail(ExitCannot, hint, "the store has a job %s already, whose image %d is not of this process but of %q",
			a.key, gens[0].Number, strings.Join(r.Meta().GetCommand(), " "))
	}
	return nil
}

func (a *adoption) save(ctx context.Context) (*Adopted, error) {
	pending, err := a.store.Begin(a.token)
	if err != nil {
		return nil, err
	}
	update, done := a.cfg.Reporter.Progress("adopt")
	defer done()
	c, err := engine.Adopt(ctx, engine.AdoptOptions{
		Stranger: a.who, Dir: pending.Dir(), Codec: a.cfg.Codec, Stop: a.cfg.Stop, Cut: a.cfg.Cut,
		MemoPath: filepath.Join(a.store.Dir(), "adopted.json"),
		Meta:     &imagepb.Image{Job: a.key, Generation: pending.Generation(), Attempt: uint32(a.token - 1), EskyVersion: a.cfg.Version},
	}, update)
	if err != nil {
		_ = pending.Abort()
		return nil, err
	}
	dir, err := a.publish(ctx, pending, update)
	if err != nil {
		if a.cfg.Stop {
			err = errors.Join(err, c.Finish(false)) // it runs on
		}
		return nil, err
	}
	if a.cfg.Stop {
		if err := c.Finish(true); err != nil {
			return nil, Fail(ExitInternal, "end the process before the image is resumed", "the image is saved, and process %d was not ended: %w", a.who.Pid, err)
		}
	}
	for _, n := range c.Notes {
		a.warn("note", n)
	}
	if err := a.store.Prune(a.cfg.Keep); err != nil {
		a.warn("prune", "old images stay: "+err.Error())
	}
	return &Adopted{Job: a.key, Pid: a.who.Pid, Dir: dir, Generation: pending.Generation(),
		Bytes: c.Bytes, Pause: c.Pause, Took: c.Took, Stopped: a.cfg.Stop}, nil
}

// publish publishes the image. One for which the only living copy of the job is
// to be ended is read again first, every byte.
func (a *adoption) publish(ctx context.Context, pending *store.Pending, progress func(engine.Progress)) (dir string, err error) {
	if a.cfg.Stop {
		if err := readAgain(ctx, pending.Dir(), progress); err != nil {
			_ = pending.Abort()
			return "", err
		}
	}
	if err := pending.Publish(); err != nil {
		_ = pending.Abort()
		return "", err
	}
	gens, err := a.store.Generations()
	if err != nil {
		return "", err
	}
	for _, g := range gens {
		if g.Number == pending.Generation() {
			return g.Dir, nil
		}
	}
	return "", fmt.Errorf("image %d is not in the store", pending.Generation())
}

func readAgain(ctx context.Context, dir string, progress func(engine.Progress)) error {
	r, err := image.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Verify(ctx, func(done, total int64) {
		progress(engine.Progress{Phase: "checking the image", Done: done, Total: total})
	})
}

func (a *adoption) warn(event, text string) {
	a.cfg.Reporter.Report(Event{Job: a.key, Level: Warning, Event: event, Text: text})
}

// refuseTwin keeps an adopted job from running twice on this host: as what was
// resumed, and as what the image was made of and nobody has ended.
func refuseTwin(origin *imagepb.Origin) error {
	if !engine.Lives(origin) {
		return nil
	}
	return Fail(ExitCannot, fmt.Sprintf("end it first: `kill -9 %d`, or `esky-wrap adopt --stop %d`, which saves it once more", origin.Pid, origin.Pid),
		"process %d, of which this image was made, still runs", origin.Pid)
}
