// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// probeVerb is the hidden argument of the process that is started in new
// namespaces to see whether that works.
const probeVerb = "__namespaces"

// prolog tries what esky does first in each job: namespaces of one's own. Kernel
// settings that forbid it (user.max_user_namespaces, unprivileged_userns_clone,
// AppArmor's restriction) all show as a failure of this one clone(2).
func prolog(j job) error {
	cmd := exec.Command("/proc/self/exe", probeVerb)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: j.uid, HostID: j.uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: j.gid, HostID: j.gid, Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		host, _ := os.Hostname() // only decoration
		return fmt.Errorf("user %d cannot have user namespaces on %s, so esky cannot checkpoint job %s here: %w", j.uid, host, j.id, err)
	}
	return nil
}
