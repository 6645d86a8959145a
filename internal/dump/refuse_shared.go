// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/freeze"
)

// sharing is something that clone(2) can let processes have in common.
type sharing struct {
	kind uintptr // of kcmp(2)
	what string
}

// refuseShared finds processes that share what only threads of one process can
// share in a resumed job, whoever made them. kcmp(2) sorts: what is shared
// stands side by side.
func refuseShared(procs []*freeze.Process) []string {
	var refused []string
	sorted := slices.Clone(procs)
	for _, s := range []sharing{
		{kcmpVM, "its memory"}, {kcmpFiles, "its table of descriptors"},
		{kcmpFS, "its working directory and umask"}, {kcmpSighand, "its signal handlers"},
	} {
		slices.SortFunc(sorted, func(a, b *freeze.Process) int {
			order, _ := kcmp(a.Eye, b.Eye, s.kind, 0, 0)
			return order
		})
		for i := 1; i < len(sorted); i++ {
			a, b := sorted[i-1], sorted[i]
			if order, err := kcmp(a.Eye, b.Eye, s.kind, 0, 0); err != nil || order != 0 {
				continue
			}
			if a.Pid > b.Pid {
				a, b = b, a
			}
			refused = append(refused, fmt.Sprintf("pid %d (%s) shares %s with pid %d (clone without CLONE_THREAD)", b.Pid, b.Stat.Comm, s.what, a.Pid))
		}
	}
	return refused
}
