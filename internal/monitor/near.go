// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/esky-hpc/esky/internal/store"
)

// With a fast place on this host (Config.Local) images are published there. What
// brings them to the store runs beside the job, and gives way to the last
// checkpoint, which must not share the disk with it: what it left undone is done
// when the job is gone, and if we are killed over that, by the scheduler's epilog,
// for which there is a note in the directory of control sockets.

// brought is what became of bringing an image to the store.
type brought struct {
	generation uint32
	err        error
}

// openNear opens the place. Without it the job does as well, only slower.
func (m *monitor) openNear() {
	if m.cfg.Local == "" {
		return
	}
	near, err := m.store.Near(m.cfg.Local)
	if err != nil {
		m.withoutNear(err)
		return
	}
	m.near = near
}

func (m *monitor) withoutNear(err error) {
	m.near = nil
	m.note(Event{Level: Warning, Event: "warning", Text: fmt.Sprintf("images go to the store at once, not to %s first: %v", m.cfg.Local, err)})
}

// takeIncarnation begins this incarnation, here and in the near place. What lies
// there is kept if nobody has run the job since.
func (m *monitor) takeIncarnation() (store.Token, error) {
	believed, err := false, error(nil)
	if m.near != nil {
		believed, err = m.near.Believed()
	}
	h := m.holder()
	tok, takeErr := m.store.Take(h)
	if m.near == nil || takeErr != nil {
		return tok, takeErr
	}
	if err == nil && !believed {
		err = m.near.RemoveImages()
	}
	if err == nil {
		h.Token = tok
		err = m.near.Follow(h)
	}
	if err == nil {
		err = store.Note{Store: m.cfg.Store, Job: m.key, Near: m.cfg.Local, Keep: m.cfg.Keep}.Write(m.place.note())
	}
	if err != nil {
		m.withoutNear(err)
	}
	return tok, nil
}

// imageDir is where images are written.
func (m *monitor) imageDir() string {
	if m.near != nil {
		return m.near.Dir()
	}
	return m.store.Dir()
}

// beginImage makes room for an image: in the near place, if there is one with room.
func (m *monitor) beginImage(far bool) (*store.Pending, error) {
	switch {
	case m.near == nil:
		return m.store.Begin(m.token)
	case far:
		return m.near.BeginFar(m.token)
	}
	return m.near.Begin(m.token)
}

// withNear puts the images of the near place before the store's of the same number.
func (m *monitor) withNear(far []store.Generation) []store.Generation {
	if m.near == nil {
		return far
	}
	near, err := m.near.Generations()
	if err != nil {
		return far
	}
	all := slices.Concat(near, far)
	slices.SortStableFunc(all, func(a, b store.Generation) int { return int(b.Number) - int(a.Number) })
	return all
}

// bring starts to bring the newest image to the store, unless that is being done.
func (m *monitor) bring() {
	if m.near == nil || m.bringing != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.bringing = cancel
	m.spawn(func() { m.broughts <- m.drain(ctx) })
}

// onBrought goes on with the next image, if there is one by now.
func (m *monitor) onBrought(b brought) *outcome {
	m.bringing()
	m.bringing = nil
	switch {
	case errors.Is(b.err, store.ErrStale):
		return &outcome{kind: superseded, err: b.err}
	case errors.Is(b.err, context.Canceled):
	case b.err != nil:
		m.note(Event{Level: Warning, Event: "not_brought", Text: fmt.Sprintf("the image is on this host only: %v", b.err)})
	case m.state != leaving && b.generation != 0 && m.last != nil && m.last.Generation > b.generation:
		m.bring()
	}
	return nil
}

// haltBringing waits until nothing is being brought.
func (m *monitor) haltBringing() {
	if m.bringing != nil {
		m.bringing()
		<-m.broughts
		m.bringing = nil
	}
}

// drain brings the newest image to the store. It touches no state of the machine.
func (m *monitor) drain(ctx context.Context) brought {
	n, err := m.near.Drain(ctx)
	if err == nil {
		err = errors.Join(m.store.Prune(m.cfg.Keep), m.near.Prune(1))
	}
	return brought{n, err}
}

// release gives the job up to the next incarnation: with all that is saved of it.
func (m *monitor) release() {
	m.closeServer()
	m.haltBringing()
	if m.near != nil {
		if b := m.drain(context.Background()); b.err != nil {
			m.note(Event{Level: Warning, Event: "not_brought", Text: fmt.Sprintf(
				"the last image is on this host only, until the epilog brings it to the store: %v", b.err)})
		} else if err := m.forgetNear(); err != nil {
			m.note(Event{Level: Warning, Event: "warning", Text: "images stay on this host: " + err.Error()})
		}
	}
	m.letGo()
}

// emptyNear removes the images of a job that begins anew.
func (m *monitor) emptyNear() error {
	if m.near == nil {
		return nil
	}
	return m.near.RemoveImages()
}

// forgetNear removes the near place of a job that has ended here.
func (m *monitor) forgetNear() error {
	if m.near == nil {
		return nil
	}
	m.haltBringing()
	_ = os.Remove(m.place.note()) // one that stays does no harm
	return m.near.Discard()
}
