// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
)

// Without namespaces the init is an ordinary process. What pid 1 is by its number
// it becomes by PR_SET_CHILD_SUBREAPER: the parent of the job's orphans, so that
// the job is what descends from it.
func (p *initProcess) beShim() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt the orphans of the job: %w", err)
	}
	return (&ids.Table{Init: os.Getpid()}).Write(p.config.IDs)
}

// isMain says that a process which has ended was the main one. In a resumed job
// without namespaces the table tells its number, once the job has been made.
func (p *initProcess) isMain(pid int) bool {
	if p.config.Shim && p.config.Resume != nil {
		t, err := ids.Read(p.config.IDs)
		if err != nil || len(t.Pairs) == 0 {
			return false
		}
		pid = t.Virtual(pid)
	}
	return pid == p.mainPid
}
