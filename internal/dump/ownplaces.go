// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// ownPlace is the working directory and umask of a thread that does not have those
// of its process (unshare(2)), or the thread before it that it shares them with.
type ownPlace struct {
	process *process
	thread  *freeze.Thread
	place   *imagepb.Place
	of      int
}

// findOwnPlaces finds the threads that have such. One that shares it with another
// process, or a thread of one, is refused: threads are made after all processes.
func (d *Dump) findOwnPlaces() error {
	var all []*ownPlace
	var refused []string
	for _, q := range d.procs {
		for _, t := range q.Threads {
			if samePlace(q.Eye, t.HostTid) {
				continue
			}
			own := &ownPlace{process: q, thread: t}
			for _, other := range d.procs {
				if samePlace(other.Eye, t.HostTid) {
					refused = append(refused, own.shares(other.Pid))
				}
			}
			for _, other := range all {
				switch same := samePlace(other.thread.HostTid, t.HostTid); {
				case same && other.process != q:
					refused = append(refused, own.shares(other.process.Pid))
				case same && own.of == 0:
					own.of = other.thread.Tid
				}
			}
			if own.of == 0 {
				var err error
				if own.place, err = describeCwd(t.HostTid); err != nil {
					return fmt.Errorf("thread %d: %w", t.Tid, err)
				}
				own.place.Umask = t.Status.Umask
			}
			if q.places == nil {
				q.places = map[int]*ownPlace{}
			}
			q.places[t.Tid], all = own, append(all, own)
		}
	}
	if len(refused) > 0 {
		return &RefusedError{Reasons: refused}
	}
	return nil
}

func samePlace(tid1, tid2 int) bool {
	order, err := kcmp(tid1, tid2, kcmpFS, 0, 0)
	return err != nil || order == 0
}

func (o *ownPlace) shares(pid int) string {
	return fmt.Sprintf("thread %d (%s) of pid %d, but not its process, shares its working directory and umask with pid %d, which cannot be carried",
		o.thread.Tid, o.thread.Status.Name, o.process.Pid, pid)
}
