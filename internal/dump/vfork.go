// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/procfs"
)

// vforkLimit is how long a child of vfork(2) may take to execute its program.
const vforkLimit = 3 * time.Second

// awaitVforks waits until no thread is in vfork(2). Such a thread cannot be
// stopped before its child executes a program or ends, and the child, stopped
// first, would never do so.
func awaitVforks(ctx context.Context, initPid int) error {
	deadline := time.Now().Add(vforkLimit)
	for {
		pid, comm, found := inVfork(initPid)
		switch {
		case !found:
			return nil
		case time.Now().After(deadline):
			return &RefusedError{[]string{fmt.Sprintf(
				"pid %d (%s) waits in vfork() for a child that does not execute a program", pid, comm)}}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// inVfork finds a process with a thread that waits in vfork.
func inVfork(initPid int) (pid int, comm string, found bool) {
	pids, _ := freeze.Descendants(initPid)
	for _, host := range pids {
		tids, _ := procfs.Tasks(host)
		for _, tid := range tids {
			st, err := procfs.ReadStat(host, tid)
			if err != nil || st.State != 'D' {
				continue
			}
			switch freeze.BlockedIn(host, tid) {
			case unix.SYS_VFORK, unix.SYS_CLONE, unix.SYS_CLONE3:
				status, err := procfs.ReadStatus(host, 0)
				return last(status.NSpid), st.Comm, err == nil
			}
		}
	}
	return 0, "", false
}
