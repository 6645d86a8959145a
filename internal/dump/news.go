// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/tracee"
)

// news is what parents have, or have not, waited for of their children, by pid.
type news struct {
	noticed   []int // they are stopped, and their parents know it
	continued []int // they go on again, and their parents do not know it yet
}

// newsOf finds out what a process has still to hear of its children. waitid(2)
// tells without taking anything away.
func (d *Dump) newsOf(q *process) error {
	children := d.children(q)
	if len(children) == 0 {
		return nil
	}
	// One question for all: it is rarely answered.
	some, err := q.peekNews(pAll, 0, unix.WCONTINUED)
	if err != nil {
		return err
	}
	for _, child := range children {
		switch {
		case child.Stopped != 0:
			unknown, err := q.peekNews(pPid, child.Raw(), unix.WSTOPPED)
			if err != nil {
				return err
			}
			if !unknown {
				d.news.noticed = append(d.news.noticed, child.Pid)
			}
		case some:
			unknown, err := q.peekNews(pPid, child.Raw(), unix.WCONTINUED)
			if err != nil {
				return err
			}
			if unknown {
				d.news.continued = append(d.news.continued, child.Pid)
			}
		}
	}
	return nil
}

func (d *Dump) children(q *process) (all []*freeze.Process) {
	for _, p := range d.frozen.Live() {
		if p.Stat.Ppid == q.HostPid {
			all = append(all, p)
		}
	}
	return all
}

// Kinds of waitid(2).
const (
	pAll = 0
	pPid = 1
)

// peekNews asks whether there is something to be waited for.
func (q *process) peekNews(kind uint64, pid, what int) (bool, error) {
	const siPid = 16 // offset of si_pid, 0 if there is nothing
	info := q.stub.Area + dataAt
	if err := q.mem.WriteAt(make([]byte, 128), info); err != nil {
		return false, err
	}
	ask := tracee.Sys("waitid", unix.SYS_WAITID, kind, uint64(pid), info, uint64(what)|unix.WNOHANG|unix.WNOWAIT|unix.WALL, 0)
	if err := q.batch(q.Leader(), 0, ask).Run(q.stub.Code); err != nil {
		return false, err
	}
	found := make([]byte, 4)
	if err := q.mem.ReadAt(found, info+siPid); err != nil {
		return false, err
	}
	return le32(found) != 0, nil
}
