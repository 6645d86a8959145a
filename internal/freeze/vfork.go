// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// vforkLimit is how long a child of vfork(2) may take to execute its program.
const vforkLimit = 3 * time.Second

// VforkError says that a thread waits in vfork(2) for too long.
type VforkError struct {
	Pid  int // on the host
	Comm string
}

func (e *VforkError) Error() string {
	return fmt.Sprintf("pid %d (%s) waits in vfork() for a child that neither ends nor executes a program", e.Pid, e.Comm)
}

// stopVforks stops the threads that are in vfork(2), before all others. Such a
// thread stops only when its child has executed a program or ended, which the
// child, stopped itself, would never do. All others run on meanwhile.
func (j *Job) stopVforks() error {
	pids, err := j.Members()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		tids, _ := procfs.Tasks(pid)
		for _, tid := range tids {
			if !inVfork(pid, tid) {
				continue
			}
			t, err := j.seize(pid, tid)
			if err != nil {
				return err
			}
			if t != nil {
				if err := j.awaitVfork(t); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func inVfork(pid, tid int) bool {
	st, err := procfs.ReadStat(pid, tid)
	if err != nil || st.State != 'D' {
		return false
	}
	switch BlockedIn(pid, tid) {
	case unix.SYS_VFORK, unix.SYS_CLONE, unix.SYS_CLONE3:
		return true
	}
	return false
}

func (j *Job) awaitVfork(t *Thread) error {
	err := j.awaitStop(t, vforkLimit)
	if _, busy := err.(*BusyError); busy {
		st, _ := procfs.ReadStat(t.foreign, 0)
		j.deadline = time.Now() // it is not waited for any longer
		return &VforkError{Pid: t.foreign, Comm: st.Comm}
	}
	return err
}
