// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPts gives the job pseudo-terminals of its own, so that those it opens can
// have the same numbers on the next host: /dev/ptmx uses the devpts that is at
// pts beside it (Documentation/filesystems/devpts.rst). The terminal that the job
// was given is covered by that; its programs find it by name as /dev/console,
// where ttyname(3) looks as well. Where none of this can be, the job's terminals
// are the host's, and a checkpoint says so.
func mountPts() {
	var st unix.Stat_t
	if unix.Stat("/dev/pts", &st) != nil || unix.Stat("/dev/ptmx", &st) != nil {
		return
	}
	for _, fd := range []string{"0", "1", "2"} {
		if path, err := os.Readlink("/proc/self/fd/" + fd); err == nil && strings.HasPrefix(path, "/dev/pts/") {
			_ = unix.Mount(path, "/dev/console", "", unix.MS_BIND, "")
			break
		}
	}
	_ = unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
}
