// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// probeVerb is the hidden argument of the process that is started in new
// namespaces to see whether that works.
const probeVerb = "__namespaces"

// prolog tries what esky does first in each job: namespaces of one's own, with
// a /proc of their own. Kernel settings that forbid it all show here:
// user.max_user_namespaces and unprivileged_userns_clone at clone(2), AppArmor's
// restriction and a covered /proc at mount(2).
func prolog(j job, _ []string) error {
	cmd := exec.Command("/proc/self/exe", probeVerb)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: j.user.UID, HostID: j.user.UID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: j.user.GID, HostID: j.user.GID, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}, // in the new namespace; execve would drop it
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		host, _ := os.Hostname() // only decoration
		return fmt.Errorf("user %d cannot have namespaces on %s, so esky cannot checkpoint job %s here: %w %s",
			j.user.UID, host, j.id, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// probe is what the child does in its namespaces.
func probe() int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, "mount /proc:", err)
		return 1
	}
	return 0
}
