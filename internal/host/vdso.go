// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"slices"

	"github.com/esky-hpc/esky/internal/procfs"
)

// VDSO gives the address and the bytes of the [vdso] of this process: the code
// that the kernel maps into every process, the same for all of them. A kernel
// started with vdso=0 has none: base 0, no bytes.
func VDSO() (base uint64, code []byte, err error) {
	maps, err := procfs.ReadMaps(os.Getpid())
	if err != nil {
		return 0, nil, err
	}
	i := slices.IndexFunc(maps, func(m procfs.Mapping) bool { return m.Path == "[vdso]" })
	if i < 0 {
		return 0, nil, nil
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, nil, err
	}
	defer mem.Close()
	code = make([]byte, maps[i].Size())
	if _, err := mem.ReadAt(code, int64(maps[i].Start)); err != nil {
		return 0, nil, fmt.Errorf("read the vdso at %#x: %w", maps[i].Start, err)
	}
	return maps[i].Start, code, nil
}
