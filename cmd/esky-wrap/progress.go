// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"github.com/esky-hpc/esky/internal/engine"
)

// logPeriod is how often long work says a line where there is no terminal.
const logPeriod = 10 * time.Second

// Progress implements monitor.Reporter: a bar on a terminal, a line now and
// then in a log.
func (u *ui) Progress(what string) (update func(engine.Progress), done func()) {
	switch {
	case u.quiet:
		return func(engine.Progress) {}, func() {}
	case u.tty && !u.json:
		b := &bar{u: u, what: what}
		return b.update, b.done
	}
	l := &log{u: u, what: what, last: time.Now()}
	return l.update, func() {}
}

// bar draws once there is something to measure; the terminal's line is clean
// afterwards.
type bar struct {
	u    *ui
	what string

	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	phase string
}

func (b *bar) update(p engine.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Total <= 0 {
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(p.Total,
			progressbar.OptionSetWriter(b.u.err), progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(true))
	}
	if p.Phase != b.phase {
		b.phase = p.Phase
		b.bar.Describe(b.what + ": " + p.Phase)
	}
	b.bar.ChangeMax64(p.Total)
	_ = b.bar.Set64(min(p.Done, p.Total)) // drawing is not worth an error
}

func (b *bar) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}

// log says a line when the work has gone on for a while.
type log struct {
	u    *ui
	what string

	mu   sync.Mutex
	last time.Time
}

func (l *log) update(p engine.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.last) < logPeriod {
		return
	}
	l.last = time.Now()
	if l.u.json {
		l.u.object(struct {
			Event string `json:"event"`
			What  string `json:"what"`
			Phase string `json:"phase"`
			Done  int64  `json:"done"`
			Total int64  `json:"total,omitempty"`
		}{"progress", l.what, p.Phase, p.Done, p.Total})
		return
	}
	text := fmt.Sprintf("%s: %s: %s", l.what, p.Phase, humanize.IBytes(uint64(max(p.Done, 0))))
	if p.Total > 0 {
		text += " of " + humanize.IBytes(uint64(p.Total))
	}
	l.u.line(text)
}
