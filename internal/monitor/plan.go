// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"io"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// plan is when the state machine has something to decide next. Zero times mean
// nothing to do, or for due and look: not computed yet.
type plan struct {
	due     time.Time // the next periodic checkpoint
	look    time.Time // compute the time to leave
	leave   time.Time // as computed last
	tried   bool      // leaving for the limit was tried; the scheduler's signal is next
	cpuNote time.Time // record the CPU time of a resumed job
	asked   bool      // the store's speed is being measured, or was
}

// arm sets the timer to the next moment of the plan.
func (m *monitor) arm() {
	now := time.Now()
	if m.plan.due.IsZero() && m.cfg.Every != (Span{}) {
		if p := period(m.cfg.Every, m.costs, m.proc.MemoryBytes()); p > 0 {
			m.plan.due = now.Add(p)
		}
	}
	if m.plan.look.IsZero() && !m.job.End.IsZero() && !m.plan.tried {
		m.lookAhead(now)
	}
	var next time.Time
	for _, t := range []time.Time{m.plan.due, m.plan.look, m.plan.cpuNote} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		m.timer.Stop()
		return
	}
	m.timer.Reset(max(0, time.Until(next)))
}

// lookAhead computes when to leave and when to compute it again.
func (m *monitor) lookAhead(now time.Time) {
	need := margin(m.cfg.Margin, m.costs.estimate(m.proc.MemoryBytes()))
	m.plan.leave = leaveTime(m.started, m.job.End, need)
	m.plan.look = nextLook(now, m.plan.leave)
}

func (m *monitor) onTime(now time.Time) {
	p := &m.plan
	if isDue(p.cpuNote, now) {
		p.cpuNote = time.Time{}
		used := m.proc.CPU()
		m.spawn(func() { m.noteWork(used) })
	}
	if isDue(p.look, now) {
		m.onLook(now)
	}
	if isDue(p.due, now) {
		p.due = time.Time{}
		if m.op == nil && m.gone == nil && m.fault == nil {
			m.wish(&operation{why: "periodic"})
		}
	}
}

func (m *monitor) onLook(now time.Time) {
	m.lookAhead(now)
	if now.Before(m.plan.leave) {
		if m.cfg.Margin.Auto && m.costs.took == 0 && !m.plan.asked {
			m.plan.asked = true
			m.spawn(func() { m.speeds <- measure(m.imageDir()) })
		}
		return
	}
	m.plan.look, m.plan.tried = time.Time{}, true
	m.leave("the time limit is at " + m.job.End.Format(time.TimeOnly))
}

func isDue(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

const (
	measureBlock = 1 << 20
	measureStep  = 8 << 20 // written between two syncs
	measureSize  = 64 << 20
	measureTime  = time.Second
)

// measure writes a little to the store and returns its speed in bytes a second,
// 0 if that cannot be told.
func measure(dir string) float64 {
	f, err := os.CreateTemp(dir, ".speed-")
	if err != nil {
		return 0
	}
	defer f.Close()
	if os.Remove(f.Name()) != nil {
		return 0
	}
	block := make([]byte, measureBlock)
	random := rand.NewChaCha8([32]byte{}) // incompressible, for file systems that compress
	_, _ = random.Read(block)
	return timeWrites(f, block, func() error { return unix.Fdatasync(int(f.Fd())) })
}

// timeWrites syncs every few blocks: the page cache would take all of it at
// once, and then a slow store would keep us for minutes.
func timeWrites(w io.Writer, block []byte, sync func() error) float64 {
	begin, n := time.Now(), 0
	for n < measureSize && time.Since(begin) < measureTime {
		for step := 0; step < measureStep; step += len(block) {
			if _, err := w.Write(block); err != nil {
				return 0
			}
			n += len(block)
		}
		if sync() != nil {
			return 0
		}
	}
	return float64(n) / max(time.Since(begin).Seconds(), 1e-6)
}
