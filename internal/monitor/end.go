// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
)

// end does what an outcome asks for and returns the exit status.
func (m *monitor) end(ctx context.Context, o outcome) (int, error) {
	m.refuseQueue(o)
	m.haltBringing()
	switch o.kind {
	case ended:
		return m.finish(o.status)
	case left:
		m.awaitEnd()
		if o.quiet {
			return m.park()
		}
		return m.handBack(ctx, fmt.Sprintf("checkpoint %d is saved", m.last.Generation))
	case killed:
		return m.handBack(ctx, fmt.Sprintf("the job was killed by signal %d before it could be frozen", o.status-128))
	case superseded:
		_ = m.proc.Kill()
		m.awaitEnd()
		return 0, Fail(ExitAgain, "", "%s is run by a newer incarnation: this one was ended: %w", m.key, o.err)
	}
	if m.hasImage() {
		return m.handBack(ctx, fmt.Sprintf("the job was lost: %v", o.err))
	}
	return 0, Fail(ExitInternal, "run it again", "the job was lost, and it has no image yet: %w", o.err)
}

// refuseQueue answers those whose checkpoint will not be made.
func (m *monitor) refuseQueue(o outcome) {
	for _, op := range m.queue {
		if op.answer == nil {
			continue
		}
		if o.kind == left {
			op.answer(m.last, nil)
			continue
		}
		if o.kind == lost {
			op.answer(nil, Fail(ExitAgain, "try again", "%s was lost and is resumed from its last image", m.key))
			continue
		}
		op.answer(nil, Fail(ExitNotFound, "", "%s has ended", m.key))
	}
	m.queue = nil
}

// finish records the result, so that nothing of the job is run twice, and only
// then removes the images.
func (m *monitor) finish(status int) (int, error) {
	m.note(Event{Event: "ended", Status: &status, Text: fmt.Sprintf("%s ended with status %d", m.key, status)})
	err := m.store.SetDone(store.DoneRecord{
		Token: m.token, Status: status, Time: time.Now(), Host: hostname(), Attempt: m.attempt,
	})
	if err != nil {
		m.note(Event{Level: Warning, Event: "warning", Text: "a requeued job would run again, from its last image: " + err.Error()})
		return status, nil
	}
	if err := errors.Join(m.store.RemoveImages(), m.forgetNear()); err != nil {
		m.note(Event{Level: Warning, Event: "warning", Text: "the images of the finished job stay: " + err.Error()})
	}
	m.removeStatus()
	m.tellFinished(status)
	return status, nil
}

// tellFinished lets the scheduler know, where it wants to.
func (m *monitor) tellFinished(status int) {
	f, ok := m.cfg.Adapter.(sched.Finisher)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.patience.action)
	defer cancel()
	if err := sched.Perform(ctx, m.cfg.Facts.Ask, f.Finish(m.job, status)); err != nil {
		m.note(Event{Level: Warning, Event: "warning", Text: "the scheduler was not told that the job has ended: " + err.Error()})
	}
}

// awaitEnd waits until nothing of the job is left: only then may another host
// have it.
func (m *monitor) awaitEnd() {
	if m.gone != nil {
		return
	}
	late := time.NewTimer(m.cfg.patience.gone)
	defer late.Stop()
	for {
		select {
		case e := <-m.ends:
			m.gone = &e
			return
		case <-m.cfg.Signals: // we are leaving already
		case <-late.C:
			m.note(Event{Level: Warning, Event: "warning", Text: "the processes of the saved job have not ended in time"})
			return
		}
	}
}

// park leaves a saved job alone: whoever asked for it brings it back.
func (m *monitor) park() (int, error) {
	m.release()
	status := ExitAgain
	m.note(Event{Event: "left", Status: &status, Text: fmt.Sprintf(
		"%s: checkpoint %d is saved; who asked for it brings the job back", m.key, m.last.Generation)})
	return status, nil
}

// handBack gives the job to the scheduler, to be run again.
func (m *monitor) handBack(ctx context.Context, what string) (int, error) {
	if m.near == nil {
		m.letGo()
	}
	facts := m.cfg.Facts
	facts.Now = time.Now()
	a := m.cfg.Adapter.Leave(ctx, facts, m.job)
	text := fmt.Sprintf("%s: %s", m.key, what)
	if a.Note != "" {
		text += "; " + a.Note
	}
	m.note(Event{Event: "left", Status: &a.Exit, Text: text})
	told := m.perform(ctx, a)
	m.release()
	m.showSaved()
	if told {
		m.awaitKill(ctx, a.Stay)
	} else if a.WaitForKill {
		m.awaitKill(ctx, m.cfg.patience.kill)
	}
	return a.Exit, nil
}

// hold keeps the job from being run again.
func (m *monitor) hold(ctx context.Context, reason string) (int, error) {
	m.release()
	a := m.cfg.Adapter.Hold(m.job, reason)
	m.perform(ctx, a)
	return a.Exit, Fail(a.Exit, "`esky-wrap verify` and `esky-wrap match` tell about the image; --fresh starts from the beginning", "%s", reason)
}

// perform tells the scheduler, or the user that the scheduler could not be told.
func (m *monitor) perform(ctx context.Context, a sched.Action) bool {
	limited, cancel := context.WithTimeout(ctx, m.cfg.patience.action)
	defer cancel()
	err := sched.Perform(limited, m.cfg.Facts.Ask, a)
	if err != nil {
		m.note(Event{Level: Warning, Event: "requeue_failed", Text: fmt.Sprintf(
			"the scheduler was not told: %v; what is saved is safe, submit the job again to go on", err)})
	}
	return err == nil
}

// awaitKill keeps the job as it is until the scheduler kills it: exiting by
// ourselves would end a job for good that is being preempted, and let a script
// go on that is about to be killed.
func (m *monitor) awaitKill(ctx context.Context, limit time.Duration) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		select {
		case <-m.cfg.Signals:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// showSaved says in the queue where the job will go on, for people and for a
// prolog that stages images.
func (m *monitor) showSaved() {
	if m.last != nil {
		m.show(fmt.Sprintf("esky: checkpoint %d of %s in %s", m.last.Generation, m.last.Time.Format(time.DateTime), m.store.Dir()))
	}
}

// confine tells the scheduler where else the job can live; the job does not wait.
func (m *monitor) confine() {
	if len(m.job.Confine) == 0 {
		return
	}
	m.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.patience.action)
		defer cancel()
		_ = sched.Perform(ctx, m.cfg.Facts.Ask, sched.Action{Commands: m.job.Confine}) // see sched.Job
	})
}

// show puts a line beside the job in the queue; the job does not wait for it.
func (m *monitor) show(text string) {
	a := m.cfg.Adapter.Status(m.job, text)
	if len(a.Commands) == 0 {
		return
	}
	m.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), m.cfg.patience.action)
		defer cancel()
		_ = sched.Perform(ctx, m.cfg.Facts.Ask, a) // for information only
	})
}
