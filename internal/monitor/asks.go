// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"os"
	"path/filepath"

	"github.com/esky-hpc/esky/internal/engine"
)

// ask is a request from the control socket on its way to the state machine.
type ask struct {
	request  Request
	progress func(engine.Progress)
	reply    chan Reply
}

// ask is called by the connections of the control socket.
func (m *monitor) ask(ctx context.Context, r Request, progress func(engine.Progress)) Reply {
	a := ask{r, progress, make(chan Reply, 1)}
	select {
	case m.asks <- a:
	case <-ctx.Done():
		return refusal(Fail(ExitAgain, "", "the monitor is ending"))
	}
	select {
	case reply := <-a.reply:
		return reply
	case <-ctx.Done():
	}
	// The answer may have come with the end.
	select {
	case reply := <-a.reply:
		return reply
	default:
		return refusal(Fail(ExitAgain, "", "the monitor is ending"))
	}
}

func refusal(err error) Reply {
	return Reply{Error: err.Error(), Hint: Hint(err), Code: Code(err)}
}

// onAsk answers, or starts what will lead to an answer.
func (m *monitor) onAsk(a ask) {
	switch {
	case a.request.Op == "status":
		s := m.describe()
		a.reply <- Reply{State: &s}
	case a.request.Op != "checkpoint":
		a.reply <- refusal(Fail(ExitUsage, "", "request %q is not known", a.request.Op))
	case m.gone != nil, m.fault != nil:
		a.reply <- refusal(Fail(ExitNotFound, "", "%s has ended", m.key))
	case m.state == starting, m.state == leaving:
		m.queue = append(m.queue, m.requested(a)) // once it runs; with the last one
	default:
		m.wish(m.requested(a))
	}
}

func (m *monitor) requested(a ask) *operation {
	return &operation{
		stop: a.request.Stop, quiet: a.request.Stop && a.request.Quiet, why: "asked for by a command", progress: a.progress,
		answer: func(s *Saved, err error) {
			if err != nil {
				a.reply <- refusal(err)
				return
			}
			a.reply <- Reply{Saved: s}
		},
	}
}

// describe is the answer to a status request.
func (m *monitor) describe() State {
	s := State{
		Job: m.key, Store: filepath.Dir(m.store.Dir()), Dir: m.cwd, Scheduler: m.job.Scheduler, JobID: m.job.ID,
		State: m.state.String(), Host: hostname(), MonitorPid: os.Getpid(), Attempt: m.attempt,
		Started: m.started, Last: m.last, Waiting: len(m.queue), Next: m.plan.due, Limit: m.job.End, Leave: m.plan.leave,
	}
	if m.proc != nil && m.gone == nil {
		s.InitPid, s.MainPid = m.proc.InitPid(), m.proc.MainPid()
		s.CPU, s.Memory = m.proc.CPU().Seconds(), m.proc.MemoryBytes()
	}
	return s
}
