// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var errCPUList = errors.New("not a list of CPUs")

// maxCPU bounds what a list may name, well above NR_CPUS of any kernel.
const maxCPU = 1 << 16

// ParseCPUList splits "0-3,8" (cpuset(7), list format).
func ParseCPUList(s string) ([]int, error) {
	var cpus []int
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.ParseUint(from, 10, 32)
		hi, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || hi < lo || hi >= maxCPU {
			return nil, fmt.Errorf("%w: %q", errCPUList, s)
		}
		for c := lo; c <= hi; c++ {
			cpus = append(cpus, int(c))
		}
	}
	return cpus, nil
}
