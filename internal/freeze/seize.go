// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// seizeNew seizes and interrupts all threads that are not ours yet.
func (j *Job) seizeNew() ([]*Thread, error) {
	pids, err := j.Members()
	if err != nil {
		return nil, err
	}
	var fresh []*Thread
	for _, pid := range pids {
		tids, err := procfs.Tasks(pid)
		if err != nil {
			continue // it has just ended
		}
		for _, tid := range tids {
			if j.threads[tid] != nil {
				continue
			}
			t, err := j.seize(pid, tid)
			if err != nil {
				return nil, err
			}
			if t != nil {
				fresh = append(fresh, t)
			}
		}
	}
	return fresh, nil
}

// seize returns nil for a thread that cannot be seized because it is dead.
func (j *Job) seize(pid, tid int) (*Thread, error) {
	for tries := 3; ; tries-- {
		err := seize(pid, tid)
		if err == nil || isOurs(pid, tid) {
			break
		}
		err = ignoreDead(pid, tid, err)
		// A thread that executes a program takes over the tid of the main thread:
		// the next look finds it there and not the dead one.
		if err == nil || tries == 0 {
			return nil, err
		}
	}
	t := &Thread{HostTid: tid, foreign: pid}
	j.threads[tid] = t
	if err := tracee.Interrupt(tid); err != nil && !errors.Is(err, tracee.ErrGone) {
		return nil, err
	}
	return t, nil
}

// seize seizes a thread while another one reaps the dead of its process: see
// tracee.Seize.
func seize(pid, tid int) error {
	const soon = 5 * time.Millisecond
	var done atomic.Bool
	reaper := time.AfterFunc(soon, func() {
		for ; !done.Load(); time.Sleep(soon) {
			reapDead(pid)
		}
	})
	defer reaper.Stop()
	defer done.Store(true)
	return tracee.Seize(tid)
}

// reapDead reaps the threads of a process that are dead and ours. Until then a
// thread that executes a program waits for them.
func reapDead(pid int) {
	tids, _ := procfs.Tasks(pid)
	for _, tid := range tids {
		tracee.Reap(tid)
	}
}

// isOurs says that we trace the thread already: it was made by one that had been
// seized and not stopped yet, and whose report of that has not been read.
func isOurs(pid, tid int) bool {
	status, err := procfs.ReadStatus(pid, tid)
	return err == nil && status.TracerPid == unix.Gettid()
}

// TracedError says that a debugger has a thread of the job; there can be only one.
type TracedError struct {
	Pid    int // in the job's namespace
	Comm   string
	Tracer int // host pid
}

func (e *TracedError) Error() string {
	return fmt.Sprintf("pid %d (%s) is being traced by pid %d of the host: end that debugger first", e.Pid, e.Comm, e.Tracer)
}

func ignoreDead(pid, tid int, err error) error {
	if errors.Is(err, tracee.ErrGone) {
		return nil
	}
	st, statErr := procfs.ReadStat(pid, tid)
	if statErr != nil || st.State == 'Z' || st.State == 'X' {
		return nil
	}
	if status, e := procfs.ReadStatus(pid, tid); e == nil && status.TracerPid != 0 {
		return &TracedError{Pid: status.NSpid[len(status.NSpid)-1], Comm: st.Comm, Tracer: status.TracerPid}
	}
	return err
}
