// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// hugeShift is where mmap(2) takes the logarithm of the page size (MAP_HUGE_SHIFT).
const hugeShift = 26

// mapHuge maps memory in huge pages, as the program asked for (MAP_HUGETLB). Where
// this host has none to give, ordinary pages do, which the kernel may join.
// Without MAP_NORESERVE, even if the program gave that, what is mapped is there:
// it would be killed otherwise when it gets its content.
func (p *proc) mapHuge(r *restorer, v *imagepb.Vma) error {
	length := v.End - v.Start
	flags := uint64(unix.MAP_FIXED_NOREPLACE | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS)
	size := uint64(bits.TrailingZeros64(v.HugePageSize)) << hugeShift
	s := p.script()
	s.add("map huge pages", unix.SYS_MMAP, v.Start, length, uint64(v.Prot), flags|unix.MAP_HUGETLB|size, ^uint64(0), 0)
	err := s.do()
	if err == nil {
		return nil
	}
	r.note("pid %d: %d MiB of its memory are not in huge pages of %d KiB any more: %v (vm.nr_hugepages)", p.pb.Pid, length>>20, v.HugePageSize>>10, err)
	s = p.script()
	s.add(fmt.Sprintf("map %#x", v.Start), unix.SYS_MMAP, v.Start, length, uint64(v.Prot), flags, ^uint64(0), 0)
	s.add("madvise", unix.SYS_MADVISE, v.Start, length, unix.MADV_HUGEPAGE)
	return s.do()
}
