// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/freeze"
)

// refuseShared finds processes that share what only threads of one process can
// share in a resumed job.
func refuseShared(procs []*freeze.Process) []string {
	var refused []string
	for _, shared := range []struct {
		kind uintptr
		what string
	}{{kcmpVM, "its memory"}, {kcmpSighand, "its signal handlers"}} {
		for _, group := range sharing(procs, shared.kind) {
			for _, p := range group[1:] {
				refused = append(refused, fmt.Sprintf("pid %d (%s) shares %s with pid %d (clone without CLONE_THREAD)", p.Pid, p.Stat.Comm, shared.what, group[0].Pid))
			}
		}
	}
	return refused
}

// sharing finds the processes that have something of one kind in common, whoever
// made them (clone(2)); each group in the order of procs. kcmp(2) sorts: what is
// shared stands side by side.
func sharing(procs []*freeze.Process, kind uintptr) (groups [][]*freeze.Process) {
	sorted := slices.Clone(procs)
	slices.SortFunc(sorted, func(a, b *freeze.Process) int {
		order, _ := kcmp(a.Eye, b.Eye, kind, 0, 0)
		return cmp.Or(order, a.HostPid-b.HostPid)
	})
	for i := 0; i < len(sorted); {
		end := i + 1
		for end < len(sorted) {
			if order, err := kcmp(sorted[i].Eye, sorted[end].Eye, kind, 0, 0); err != nil || order != 0 {
				break
			}
			end++
		}
		if end-i > 1 {
			groups = append(groups, sorted[i:end])
		}
		i = end
	}
	return groups
}

// firstOf tells of each process that shares something with others the number of
// the first of them.
func firstOf(procs []*freeze.Process, kind uintptr) map[int]int {
	first := map[int]int{}
	for _, group := range sharing(procs, kind) {
		for _, p := range group {
			first[p.Pid] = group[0].Pid
		}
	}
	return first
}
