// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Numbers of prctl(2) and arch_prctl(2) that golang.org/x/sys/unix does not have.
const (
	prGetMDWE        = 66
	prGetMemoryMerge = 68
	archGetXcompPerm = 0x1022
)

// habits are what a process has asked the kernel for by prctl(2) and the like.
// A kernel that does not know one of them answers with an error: it is not set.
type habits struct{ keepCaps, mdwe, merge, xcomp *tracee.Call }

// newHabits adds the questions to a batch, with room for one word at an address.
func newHabits(add func(*tracee.Call) *tracee.Call, at uint64) *habits {
	ask := func(name string, nr uintptr, args ...uint64) *tracee.Call {
		c := add(tracee.Sys(name, nr, args...))
		c.Asks = true
		return c
	}
	return &habits{
		keepCaps: ask("prctl", unix.SYS_PRCTL, unix.PR_GET_KEEPCAPS),
		mdwe:     ask("prctl", unix.SYS_PRCTL, prGetMDWE),
		merge:    ask("prctl", unix.SYS_PRCTL, prGetMemoryMerge),
		xcomp:    ask("arch_prctl", unix.SYS_ARCH_PRCTL, archGetXcompPerm, at),
	}
}

func (h *habits) describe(pb *imagepb.Process, word []byte) {
	pb.KeepCaps, pb.MemoryMerge = h.keepCaps.Result == 1, h.merge.Result == 1
	if h.mdwe.Result > 0 {
		pb.Mdwe = uint32(h.mdwe.Result)
	}
	if h.xcomp.Err() == nil {
		pb.XcompPerm = le64(word)
	}
}
