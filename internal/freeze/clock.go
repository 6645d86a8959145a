// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/ids"
)

// ClockShift is by how much the clocks of a process, "monotonic" and
// "boottime", are ahead of the host's: by its time namespace
// (time_namespaces(7)), or by the preload library's table. A kernel without
// these has no shift.
func ClockShift(pid int) (map[string]time.Duration, error) {
	if ids.Shim() {
		monotonic, boottime := ids.Shift()
		return map[string]time.Duration{"monotonic": monotonic, "boottime": boottime}, nil
	}
	shift := map[string]time.Duration{}
	path := fmt.Sprintf("/proc/%d/timens_offsets", pid)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return shift, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var sec, nsec int64
		if _, err := fmt.Sscan(line, &name, &sec, &nsec); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		shift[name] = time.Duration(sec)*time.Second + time.Duration(nsec)
	}
	return shift, nil
}
