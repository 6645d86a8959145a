// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/procfs"
)

// describe reads what the frozen threads and processes are.
func (j *Job) describe(known []Sleeper) error {
	pids, err := j.Members()
	if err != nil {
		return err
	}
	slices.Sort(pids)
	for _, pid := range pids {
		p, err := j.process(pid)
		if procfs.Gone(err) {
			continue // a zombie of the init, which reaps while all others stand still
		}
		if err != nil {
			return err
		}
		if p.Zombie && !j.Adopted() && p.Stat.Ppid == j.Init {
			continue // the same, a moment earlier
		}
		j.Processes = append(j.Processes, p)
	}
	return j.readThreads(known)
}

func (j *Job) process(pid int) (*Process, error) {
	p := &Process{HostPid: pid}
	var err error
	if p.Stat, err = procfs.ReadStat(pid, 0); err != nil {
		return nil, err
	}
	if p.Status, err = procfs.ReadStatus(pid, 0); err != nil {
		return nil, err
	}
	// An adopted job, and one without namespaces, has our own pids; every other has those of its namespace.
	if own := len(p.Status.NSpid) > 1; own == (j.Adopted() || ids.Shim()) {
		return nil, fmt.Errorf("pid %d is in a pid namespace that is not the job's", pid)
	}
	p.Pid = ids.Virtual(p.Raw())
	tids, err := procfs.Tasks(pid)
	if err != nil {
		return nil, err
	}
	if p.Stat.State == 'Z' || p.Stat.State == 'X' {
		return p, p.ended(j, tids)
	}
	for _, tid := range tids {
		t := j.threads[tid]
		if t == nil || !t.seen || t.gone {
			return nil, fmt.Errorf("thread %d: %w", tid, errMoving)
		}
		if tid == pid {
			p.Threads = slices.Insert(p.Threads, 0, t)
		} else {
			p.Threads = append(p.Threads, t)
		}
		if t.group != 0 {
			p.Stopped = t.group
		}
	}
	return p, nil
}

// ended makes a zombie of a process whose main thread is dead, unless another
// thread of it lives.
func (p *Process) ended(j *Job, tids []int) error {
	for _, tid := range tids {
		switch t := j.threads[tid]; {
		case tid == p.HostPid:
		case t != nil && t.seen && !t.gone:
			return &LeaderError{p.Pid, p.Stat.Comm}
		default:
			return fmt.Errorf("thread %d: %w", tid, errMoving)
		}
	}
	p.Zombie = true
	return nil
}
