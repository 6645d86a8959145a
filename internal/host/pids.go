// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// pidLimit is what no pid reaches on any 64-bit host (PID_MAX_LIMIT).
const pidLimit = 4 << 20

// pidMax is what the pids of a resumed job must stay below. Since Linux 6.14 each
// pid namespace has a limit of its own, which in a new one is the highest
// possible; before, all have that of the host (proc_sys_kernel(5)).
func pidMax(kernel string) int {
	if atLeast(kernel, 6, 14) {
		return pidLimit
	}
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return pidLimit
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return pidLimit
	}
	return n
}

// atLeast compares the release that uname(2) gives.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// matchPids looks whether a job with pids up to highest fits on a host whose pids
// stay below limit. An adopted job has the pids of the host it was started on.
func matchPids(highest int32, limit int) (Mismatch, bool) {
	if int(highest) < limit {
		return Mismatch{}, true
	}
	return Mismatch{"pids", fmt.Sprintf("pids up to %d", highest),
		fmt.Sprintf("kernel.pid_max %d (an administrator can raise it: sysctl kernel.pid_max=%d)", limit, pidLimit)}, false
}
