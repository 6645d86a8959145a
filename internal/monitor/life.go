// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

// The life of a running job:
//
//	state    leave signal,     checkpoint due,   the checkpoint           the job ended
//	         time limit        or asked for      is through
//	-------  ----------------  ----------------  -----------------------  ------------------
//	running  → leaving         → saving          cannot be                ended, killed, lost
//	saving   queued            queued            → running                noted
//	leaving  is on its way     queued            published: left          noted
//	                                             refused, failed: → running
//
// What is queued is done as soon as the state is running again; a leave goes
// first. What is noted decides the outcome when the checkpoint is through.
type state int

const (
	starting state = iota // live is not there yet: locks, resuming
	running
	saving  // a checkpoint is being made, the job runs on
	leaving // the last one here: the job stays frozen, then ends
)

func (s state) String() string {
	return [...]string{"starting", "running", "saving", "leaving"}[s]
}

// outcome is how the life of a job on this host ended.
type outcome struct {
	kind   outcomeKind
	status int
	err    error
	quiet  bool // left without a word to the scheduler
}

type outcomeKind int

const (
	ended      outcomeKind = iota // by itself: done, for ever
	left                          // frozen, saved, to be resumed elsewhere
	killed                        // by the signal that told us to leave: to be resumed from the last image
	lost                          // by a fault of ours or the death of its init: to be resumed from the last image
	superseded                    // another incarnation has taken over
)

// ending is what became of the processes of the job.
type ending struct {
	status int
	err    error
}

// live is the state machine. It returns when the job is no more.
func (m *monitor) live() outcome {
	m.enter(running)
	for _, s := range m.takeBacklog() {
		m.onSignal(s)
	}
	if m.op == nil {
		m.next()
	}
	for {
		m.arm()
		var o *outcome
		select {
		case s := <-m.cfg.Signals:
			m.onSignal(s.(syscall.Signal))
		case <-m.timer.C:
			m.onTime(time.Now())
		case a := <-m.asks:
			m.onAsk(a)
		case n := <-m.proc.Requests():
			proc := m.proc
			m.wish(&operation{why: "the job asked for it", answer: func(_ *Saved, err error) { proc.Answer(n, err) }})
		case s := <-m.speeds:
			m.costs.speed = s
			m.plan.look = time.Now()
		case r := <-m.results:
			o = m.onResult(r)
		case b := <-m.broughts:
			o = m.onBrought(b)
		case e := <-m.ends:
			o = m.onEnd(e)
		}
		if o != nil {
			return *o
		}
	}
}

func (m *monitor) onSignal(s syscall.Signal) {
	switch m.mean(s) {
	case meansLeave:
		m.received[s] = true
		m.leave("signal " + signalName(s))
	case meansForward:
		if s == unix.SIGCONT {
			m.stopped = false
		}
		_ = m.proc.Signal(s) // it has just ended: the ending tells
	case meansStop:
		m.stopped = true
		_ = m.proc.Signal(s)
		m.stopWithShell()
	}
}

// leave begins the last checkpoint on this host. Hearing of it twice is normal:
// schedulers signal several times, and the limit may come on top.
func (m *monitor) leave(why string) {
	if m.state == leaving || m.gone != nil || m.fault != nil {
		return
	}
	if m.proc.MainPid() == 0 {
		// Its result is there; what still runs of it is not worth a move.
		m.note(Event{Event: "ending", Text: "the main process has ended: the processes it left behind are ended too (" + why + ")"})
		m.kill()
		return
	}
	m.wish(&operation{stop: true, why: why})
}

// wish starts an operation, now or as soon as the present one is through.
func (m *monitor) wish(op *operation) {
	switch {
	case m.op == nil:
		m.begin(op)
	case op.stop:
		m.queue = append([]*operation{op}, m.queue...)
	default:
		m.queue = append(m.queue, op)
	}
}

func (m *monitor) begin(op *operation) {
	m.op = op
	if op.stop {
		m.enter(leaving)
		if m.bringing != nil {
			m.bringing()
		}
		m.note(Event{Event: "leaving", Text: "checkpoint before leaving (" + op.why + ")"})
		used := m.proc.CPU()
		m.spawn(func() { m.noteWork(used) })
	} else {
		m.enter(saving)
	}
	m.spawn(func() { m.results <- m.save(op) })
}

func (m *monitor) onResult(r result) *outcome {
	m.op = nil
	m.enter(running)
	m.plan.due = time.Time{} // the next period begins now
	if r.err == nil {
		m.succeeded(r)
	} else {
		m.failed(r)
	}
	if r.op.answer != nil {
		r.op.answer(r.saved, r.err)
	}
	switch {
	case r.err == nil && r.op.stop:
		return &outcome{kind: left, quiet: r.op.quiet}
	case errors.Is(r.err, store.ErrStale):
		return &outcome{kind: superseded, err: r.err}
	case isOurFault(r.err):
		m.fault = r.err
		m.kill() // it is dying; nothing half alive may stay
	}
	if m.gone != nil {
		return m.judge(*m.gone)
	}
	m.next()
	return nil
}

// next starts what was queued. All wishes of the queue were made before it
// starts, so one checkpoint fulfils them all.
func (m *monitor) next() {
	if len(m.queue) == 0 || m.fault != nil {
		return
	}
	all := m.queue
	m.queue = nil
	m.wish(merge(all))
}

func (m *monitor) onEnd(e ending) *outcome {
	m.gone = &e
	if m.op != nil {
		return nil
	}
	return m.judge(e)
}

// judge decides what the end of the processes means.
func (m *monitor) judge(e ending) *outcome {
	switch {
	case e.status == 128+int(unix.SIGKILL) && m.fault != nil:
		return &outcome{kind: lost, status: e.status, err: m.fault}
	case e.err != nil:
		return &outcome{kind: lost, status: ExitInternal, err: e.err}
	case m.killedBy(e.status) && m.wasTold(syscall.Signal(e.status-128)):
		// The scheduler signalled every process, not only us, and was faster
		// than the freeze: this is no result.
		return &outcome{kind: killed, status: e.status}
	}
	return &outcome{kind: ended, status: e.status}
}

// isOurFault tells a checkpoint that cost the job its life from one that was
// turned down with the job unharmed.
func isOurFault(err error) bool { return errors.As(err, new(*engine.TracerError)) }

// wasTold tells whether the signal reached us too. The scheduler sends to one
// process after the other, so ours may come a moment after the job's.
func (m *monitor) wasTold(s syscall.Signal) bool {
	late := time.NewTimer(m.cfg.patience.signal)
	defer late.Stop()
	for !m.received[s] {
		select {
		case got := <-m.cfg.Signals:
			m.received[got.(syscall.Signal)] = true
		case <-late.C:
			return false
		}
	}
	return true
}

func (m *monitor) enter(s state) { m.state = s }

func (m *monitor) takeBacklog() []syscall.Signal {
	all := m.backlog
	m.backlog = nil
	return all
}

// kill ends the processes; the ending is an event as any other.
func (m *monitor) kill() {
	proc := m.proc
	m.spawn(func() { _ = proc.Kill() })
}

// spawn runs what may be slow beside the state machine.
func (m *monitor) spawn(f func()) { m.wg.Go(f) }

// during runs something slow before there is a running job: signals to leave
// and commands meanwhile are seen to.
func (m *monitor) during(work func() error, cancel func()) error {
	done := make(chan error, 1)
	m.spawn(func() { done <- work() })
	var why *earlyError
	for {
		select {
		case err := <-done:
			switch {
			case why == nil:
				return err
			case err == nil: // through before it could be cancelled
				m.backlog = append(m.backlog, why.signal)
				return nil
			}
			return why
		case s := <-m.cfg.Signals:
			if e := m.early(s.(syscall.Signal)); e != nil {
				if why == nil {
					cancel()
				}
				why = e
			}
		case a := <-m.asks:
			m.onAsk(a)
		}
	}
}

// earlyError says that a signal came before the job ran.
type earlyError struct {
	signal syscall.Signal
	leave  bool
}

func (e *earlyError) Error() string {
	return "signal " + signalName(e.signal) + " came before the job ran"
}

// early is what a signal means while there is no job yet: leave, end, or
// something to tell the job later.
func (m *monitor) early(s syscall.Signal) *earlyError {
	switch {
	case m.mean(s) == meansLeave:
		m.received[s] = true
		return &earlyError{s, true}
	case m.mean(s) == meansForward && isFatal(s):
		return &earlyError{s, false}
	case m.mean(s) != meansNothing:
		m.backlog = append(m.backlog, s)
	}
	return nil
}

func isFatal(s os.Signal) bool {
	return s == unix.SIGINT || s == unix.SIGTERM || s == unix.SIGHUP || s == unix.SIGQUIT
}
