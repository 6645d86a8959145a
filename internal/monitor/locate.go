// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/store"
)

// Place says where a job is, as far as its store and this host can tell.
type Place struct {
	Job    string
	Store  *store.Store
	Holder *store.Holder     // the last one; nil if it never ran
	Done   *store.DoneRecord // nil if it has not ended
	Held   bool              // somebody has the lock: it runs, or begins to, or ends
	Here   bool              // the holder is a process of this host
}

// Locate looks a job up.
func Locate(dir, job string) (*Place, error) {
	s, err := store.Existing(dir, job)
	if err != nil {
		return nil, err
	}
	p := &Place{Job: job, Store: s}
	if p.Holder, err = s.Holder(); err != nil {
		return nil, err
	}
	if p.Done, err = s.Done(); err != nil {
		return nil, err
	}
	lock, err := s.TryLock()
	if err == nil {
		lock.Close()
	}
	p.Held = errors.Is(err, store.ErrLocked)
	p.Here = p.Holder != nil && onThisHost(p.Holder)
	return p, nil
}

// near is the place on this host with images that the store may not have; nil if
// there is none, or nothing in it that is to be believed.
func (p *Place) near() (*store.Near, error) {
	if !p.Here || p.Holder.Local == "" {
		return nil, nil
	}
	near, err := p.Store.ExistingNear(filepath.Dir(p.Holder.Local))
	if err != nil {
		return nil, nil // brought, and removed
	}
	believed, err := near.Believed()
	if err != nil || !believed {
		return nil, err
	}
	return near, nil
}

// Images are those of the store, and those on this host that have not been brought
// there yet, newest first.
func (p *Place) Images() ([]store.Generation, error) {
	all, err := p.Store.Generations()
	if err != nil {
		return nil, err
	}
	near, err := p.near()
	if near == nil || err != nil {
		return all, err
	}
	here, err := near.Generations()
	for _, g := range here {
		if !slices.ContainsFunc(all, func(f store.Generation) bool { return f.Number == g.Number }) {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(a, b store.Generation) int { return int(b.Number) - int(a.Number) })
	return all, err
}

// RemoveImages removes all of them. The caller has the job's lock.
func (p *Place) RemoveImages() error {
	near, err := p.near()
	if near != nil {
		err = near.RemoveImages()
	}
	return errors.Join(err, p.Store.RemoveImages())
}

// Elsewhere says where images may be that cannot be seen from here; empty: nowhere.
func (p *Place) Elsewhere() string {
	if p.Holder == nil || p.Here || p.Done != nil || p.Holder.Local == "" {
		return ""
	}
	return p.Holder.Local + " on " + p.Holder.Host
}

// State is what a user calls it, without asking the monitor.
func (p *Place) State() string {
	switch {
	case p.lost():
		return "without monitor"
	case p.Held:
		return "running"
	case p.Done != nil:
		return "finished"
	}
	if gens, err := p.Images(); err == nil && len(gens) > 0 {
		return "saved"
	}
	return "not running"
}

// lost says that the job runs here and its monitor does not. Where both are
// dead, the lock is that of a new monitor which has only begun.
func (p *Place) lost() bool {
	return p.Held && p.Here && !isMonitor(p.Holder.MonitorPid) && p.Holder.InitPid != 0 && runs(p.Holder.InitPid)
}

// newMonitorPatience is how long a monitor may need from taking the lock to answering.
const newMonitorPatience = 3 * time.Second

// Ask sends a request to the monitor of the job, or says why it cannot.
func (p *Place) Ask(ctx context.Context, req Request, progress func(engine.Progress)) (Reply, error) {
	for begin := time.Now(); ; {
		if err := p.reachable(); err != nil {
			return Reply{}, err
		}
		reply, err := Call(ctx, p.Holder.Socket, req, progress)
		if !errors.Is(err, errNoMonitor) {
			return reply, err
		}
		if p.lost() {
			return Reply{}, Fail(ExitAgain, "run the same command line again: it takes the job over",
				"%s has lost its monitor (process %d) and runs on without", p.Job, p.Holder.MonitorPid)
		}
		if time.Since(begin) > newMonitorPatience {
			return Reply{}, err
		}
		time.Sleep(50 * time.Millisecond)
		next, err := Locate(filepath.Dir(p.Store.Dir()), p.Job)
		if err != nil {
			return Reply{}, err
		}
		*p = *next
	}
}

func (p *Place) reachable() error {
	switch {
	case !p.Held && p.Done != nil:
		return Fail(ExitNotFound, "", "%s has ended, with status %d", p.Job, p.Done.Status)
	case !p.Held || p.Holder == nil:
		return Fail(ExitNotFound, "", "%s is not running", p.Job)
	case !p.Here:
		return Fail(ExitCannot, "give this command on that host", "%s does not run on this host: it runs %s", p.Job, Whereabouts(p.Holder))
	}
	return nil
}
