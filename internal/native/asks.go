// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

// hostTime is how long a program that asks for a checkpoint waits for a host that
// wants to hear of it.
const hostTime = 10 * time.Second

var errNoHost = errors.New("its host takes no requests")

// listen hands requests to whoever is in Requests. Where nobody is, the program is
// told that there is no checkpoint, and does not wait for ever.
func (j *job) listen() {
	for {
		select {
		case n := <-j.Job.Requests():
			select {
			case j.wanted <- struct{}{}:
			case <-time.After(hostTime):
				j.Job.Answer(n, errNoHost)
			case <-j.ended:
				return
			}
		case <-j.ended:
			return
		}
	}
}

// Requests implements plugin.Requester.
func (p *Provider) Requests(ctx context.Context, h plugin.Handle, request func()) error {
	j, err := p.jobs.Running(h)
	if err != nil {
		return err
	}
	for {
		select {
		case <-j.wanted:
			request()
		case <-j.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Answer implements plugin.Requester.
func (p *Provider) Answer(_ context.Context, h plugin.Handle, published bool) error {
	j, err := p.jobs.Running(h)
	if err != nil {
		return err
	}
	err = errNoHost
	if published {
		err = nil
	}
	j.Job.Answer(0, err)
	return nil
}
