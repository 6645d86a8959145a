// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"slices"

	"github.com/esky-hpc/esky/plugin"
)

// Requests implements monitor.Job.
func (j *job) Requests() <-chan uint32 { return j.requests }

// listen hears the requests of programs, if the provider does.
func (j *job) listen() {
	for tries := 0; ; tries++ {
		p, err := j.listenOnce()
		if err == nil {
			return
		}
		j.c.broken(p, err)
		if j.pause(tries) {
			return
		}
	}
}

// listenOnce returns without an error when there is nothing to hear any more.
func (j *job) listenOnce() (*session, error) {
	ctx := context.Background()
	p, err := j.c.provider(ctx)
	if err != nil {
		return nil, err
	}
	d, err := p.Describe(ctx)
	if err != nil {
		return p, err
	}
	r, ok := p.Provider.(plugin.Requester)
	if !ok || !slices.Contains(d.Capabilities, plugin.CanRequest) {
		return p, nil
	}
	return p, r.Requests(ctx, j.handle, func() {
		select {
		case j.requests <- 0:
		default: // one is waiting already
		}
	})
}

// Answer implements monitor.Job. The monitor does not wait for a plugin.
func (j *job) Answer(_ uint32, err error) {
	j.answers.Go(func() {
		p, e := j.c.provider(context.Background())
		if e != nil {
			return // whoever needs it next says so
		}
		if r, ok := p.Provider.(plugin.Requester); ok {
			j.c.broken(p, r.Answer(context.Background(), j.handle, err == nil))
		}
	})
}
