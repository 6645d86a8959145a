// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/store"
)

// operation is a checkpoint that somebody wants.
type operation struct {
	stop     bool
	quiet    bool // with stop: the scheduler is not to be told
	why      string
	answer   func(*Saved, error)   // may be nil; called by the state machine
	progress func(engine.Progress) // may be nil; called by the checkpoint
}

// merge makes one operation that fulfils several.
func merge(all []*operation) *operation {
	if len(all) == 1 {
		return all[0]
	}
	one := &operation{why: all[0].why}
	for _, op := range all {
		one.stop = one.stop || op.stop
		one.quiet = one.quiet || op.quiet
	}
	one.answer = func(s *Saved, err error) {
		for _, op := range all {
			if op.answer != nil {
				op.answer(s, err)
			}
		}
	}
	one.progress = func(p engine.Progress) {
		for _, op := range all {
			if op.progress != nil {
				op.progress(p)
			}
		}
	}
	return one
}

// result is an operation that is through.
type result struct {
	op     *operation
	saved  *Saved
	memory int64 // in use when it was made
	err    error
}

// save makes one checkpoint. It runs beside the state machine and touches none
// of its state.
func (m *monitor) save(op *operation) result {
	r := result{op: op, memory: m.proc.MemoryBytes()}
	r.saved, r.err = m.saveOnce(op, false)
	if m.near != nil && (isFull(r.err) || errors.Is(r.err, store.ErrNotWritable)) {
		m.note(Event{Level: Warning, Event: "warning", Text: fmt.Sprintf("the image goes to the store at once: %v", r.err)})
		r.saved, r.err = m.saveOnce(op, true)
	}
	if isFull(r.err) && m.makeRoom() {
		r.saved, r.err = m.saveOnce(op, true)
	}
	if r.err == nil && m.near == nil {
		if err := m.store.Prune(m.cfg.Keep); err != nil {
			m.note(Event{Level: Warning, Event: "prune", Text: "old images stay: " + err.Error()})
		}
	}
	return r
}

// saveOnce writes one image: where there is a near place, to it, or past it (far).
func (m *monitor) saveOnce(op *operation, far bool) (*Saved, error) {
	pending, err := m.beginImage(far)
	if err != nil {
		return nil, err
	}
	update, done := m.progressOf(op)
	defer done()
	snap, err := m.proc.Checkpoint(context.Background(), engine.CheckpointOptions{
		Dir: pending.Dir(), Codec: m.cfg.Codec, Stop: op.stop,
		Meta: m.meta(pending.Generation()), HoldLimit: m.holdLimit(op),
	}, update)
	if err != nil {
		_ = pending.Abort()
		return nil, err
	}
	if err := pending.Publish(); err != nil {
		_ = pending.Abort()
		if op.stop {
			err = errors.Join(err, snap.Finish(false)) // the job runs on
		}
		return nil, err
	}
	// From here on the image counts, whatever else goes wrong.
	if op.stop {
		if err := snap.Finish(true); err != nil {
			_ = m.proc.Kill()
		}
	}
	for _, n := range snap.Notes {
		if !m.told[n] { // the same is true of each checkpoint
			m.told[n] = true
			m.note(Event{Level: Warning, Event: "note", Text: n})
		}
	}
	return &Saved{
		Generation: pending.Generation(), Time: time.Now(), Bytes: snap.Bytes,
		Pause: snap.Pause, Took: snap.Took, Stopped: op.stop,
	}, nil
}

// meta is what the caller of the engine knows of an image.
func (m *monitor) meta(generation uint32) *imagepb.Image {
	return &imagepb.Image{
		Job: m.key, Generation: generation, Attempt: uint32(m.attempt),
		EskyVersion: m.cfg.Version, Command: m.command, Cwd: m.cwd,
	}
}

// holdLimit is how long to wait for the critical sections of the program. A
// scheduler that is about to kill does not wait.
func (m *monitor) holdLimit(op *operation) time.Duration {
	if op.stop && m.job.Grace > 0 {
		return min(10*time.Second, m.job.Grace/3)
	}
	return 10 * time.Second
}

// progressOf shows progress to whoever waits. The terminal of the job is left
// alone while the job runs on and writes there itself.
func (m *monitor) progressOf(op *operation) (update func(engine.Progress), done func()) {
	show, done := func(engine.Progress) {}, func() {}
	if op.stop {
		show, done = m.cfg.Reporter.Progress("checkpoint")
	}
	return func(p engine.Progress) {
		show(p)
		if op.progress != nil {
			op.progress(p)
		}
	}, done
}

// makeRoom removes older images but the newest when the store is full: two
// images do not help a job that cannot write a third.
func (m *monitor) makeRoom() bool {
	all, err := m.store.Generations()
	if err != nil || len(all) < 2 {
		return false
	}
	if m.store.Prune(1) != nil {
		return false
	}
	m.note(Event{Level: Warning, Event: "prune", Text: "the store is full: older images were removed to make room for this one"})
	return true
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (m *monitor) succeeded(r result) {
	s := r.saved
	m.last = s
	if !s.Stopped {
		m.bring()
	}
	m.costs.took, m.costs.pause, m.costs.memory = s.Took, s.Pause, r.memory
	m.note(Event{
		Event: "checkpoint", Generation: s.Generation, Bytes: s.Bytes, Pause: s.Pause, Took: s.Took,
		Text: fmt.Sprintf("checkpoint %d of %s: %s in %s, the job stood still for %s", s.Generation, m.key,
			humanize.IBytes(uint64(s.Bytes)), round(s.Took), round(s.Pause)),
	})
}

func (m *monitor) failed(r result) {
	if errors.As(r.err, new(*engine.JobEndedError)) || isOurFault(r.err) {
		return // the outcome says so
	}
	text := fmt.Sprintf("no checkpoint: %v; the job runs on", r.err)
	if m.last != nil {
		text += fmt.Sprintf(", checkpoint %d is still good", m.last.Generation)
	}
	m.note(Event{Level: Warning, Event: "checkpoint_failed", Text: text})
}

func round(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
