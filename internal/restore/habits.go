// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Numbers of prctl(2) and arch_prctl(2) that golang.org/x/sys/unix does not have.
const (
	prSetMDWE        = 65
	prSetMemoryMerge = 67
	archReqXcompPerm = 0x1023
	xfeatureTileData = 18 // the only state that has to be asked for
)

// mergeMemory lets the kernel look for equal pages; one that cannot (no
// CONFIG_KSM), or forbids it, only costs memory.
func (r *restorer) mergeMemory(p *proc) {
	if !p.pb.MemoryMerge {
		return
	}
	s := p.script()
	s.add("merge memory", unix.SYS_PRCTL, prSetMemoryMerge, 1, 0, 0, 0)
	if err := s.do(); err != nil {
		r.note("pid %d: %v", p.pb.Pid, err)
	}
}

// askExtended asks for the extended states that the process had asked for. It
// comes before the alternate stacks, which the kernel wants to be large enough.
func askExtended(s *script, pb *imagepb.Process) {
	if pb.XcompPerm&(1<<xfeatureTileData) != 0 {
		s.add("ask for AMX", unix.SYS_ARCH_PRCTL, archReqXcompPerm, xfeatureTileData)
	}
}

// denyWriteExec comes when nothing of ours is mapped or protected any more: it
// cannot be taken back.
func denyWriteExec(s *script, pb *imagepb.Process) {
	if pb.Mdwe != 0 {
		s.add("deny memory that is written and executed", unix.SYS_PRCTL, prSetMDWE, uint64(pb.Mdwe), 0, 0, 0)
	}
}
