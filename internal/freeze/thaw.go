// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"time"

	"github.com/esky-hpc/esky/internal/tracee"
)

// Thaw gives every thread its registers and mask back and lets it go.
func (j *Job) Thaw() error {
	var first error
	for _, p := range j.Processes {
		for _, t := range p.Threads {
			if err := t.thaw(); err != nil && !errors.Is(err, tracee.ErrGone) && first == nil {
				first = err
			}
		}
	}
	for _, p := range j.Processes {
		for _, t := range p.Threads {
			tracee.SendStray(p.HostPid, t.HostTid)
		}
	}
	return first
}

func (t *Thread) thaw() error {
	if err := tracee.SetRegs(t.HostTid, t.Regs); err != nil {
		return err
	}
	if err := tracee.SetSigmask(t.HostTid, t.Sigmask); err != nil {
		return err
	}
	return tracee.Detach(t.HostTid, 0)
}

// release lets all threads go on as if they had not been stopped, and returns
// which waits go on. A thread that has not stopped yet cannot be detached, and
// must not be left behind by a tracer that ends.
func (j *Job) release(known []Sleeper) (asleep []Sleeper, err error) {
	for len(j.threads) > 0 {
		var late []*Thread
		for tid, t := range j.threads {
			if !t.seen && !t.gone {
				late = append(late, t)
				continue
			}
			j.letGo(t, known)
			asleep = t.appendSleeper(asleep)
			delete(j.threads, tid)
		}
		for _, t := range late { // one after the other for a moment: it may wait for another of them
			if e := j.awaitStop(t, time.Millisecond); e != nil && time.Now().After(j.deadline) {
				err = e
				delete(j.threads, t.HostTid)
			}
		}
	}
	return asleep, err
}

// letGo undoes the stop of one thread: in particular a call that the kernel has
// ended only because of the stop is issued again.
func (j *Job) letGo(t *Thread, known []Sleeper) {
	if t.gone {
		return
	}
	if t.read || j.readState(t, known) == nil {
		if t.thaw() == nil {
			return
		}
	}
	_ = tracee.Detach(t.HostTid, 0)
}
