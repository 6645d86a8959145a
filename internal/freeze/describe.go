// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

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
	p := &Process{HostPid: pid, Eye: pid}
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
		tids = slices.DeleteFunc(tids, func(tid int) bool { return tid == pid })
		if p.Zombie = len(tids) == 0; p.Zombie {
			return p, nil
		}
		p.Eye = tids[0]
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
	if p.MainEnded() {
		return p, p.lookThroughOther()
	}
	return p, nil
}

// PidfdThread is PIDFD_THREAD of pidfd_open(2), from Linux 6.9 on.
const PidfdThread = unix.O_EXCL

// lookThroughOther completes what /proc does not tell of a main thread that has
// ended: what it had in common with the others.
func (p *Process) lookThroughOther() error {
	no := func(why string) error { return &LeaderError{p.Pid, p.Stat.Comm, why} }
	if p.Stopped != 0 {
		return no("while it is stopped: continue it (SIGCONT)")
	}
	// Without this its descriptors could not be borrowed.
	fd, err := unix.PidfdOpen(p.Eye, PidfdThread)
	if errors.Is(err, unix.EINVAL) {
		return no("before Linux 6.9")
	}
	if err != nil {
		return err
	}
	unix.Close(fd)
	stat, err := procfs.ReadStat(p.Eye, 0)
	if err != nil {
		return err
	}
	status, err := procfs.ReadStatus(p.Eye, 0)
	if err != nil {
		return err
	}
	main := p.Stat
	p.Stat = stat
	p.Stat.Pid, p.Stat.Comm, p.Stat.Starttime, p.Stat.ExitCode = main.Pid, main.Comm, main.Starttime, main.ExitCode
	p.Status.Umask, p.Status.VmLck, p.Status.ThreadFeatures = status.Umask, status.VmLck, status.ThreadFeatures
	return nil
}
