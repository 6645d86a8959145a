// SPDX-License-Identifier: Apache-2.0

package dump

import "golang.org/x/sys/unix"

// Kinds of kcmp(2).
const (
	kcmpFile    = 0
	kcmpVM      = 1
	kcmpFiles   = 2
	kcmpFS      = 3
	kcmpSighand = 4
)

// kcmp asks whether two processes share something; the answer orders what they
// have: -1, 0 (they share it), 1, and 2 where the kernel will not say an order.
func kcmp(pid1, pid2 int, kind uintptr, a, b int) (int, error) {
	order, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(pid1), uintptr(pid2), kind, uintptr(a), uintptr(b), 0)
	switch {
	case errno != 0:
		return 0, errno
	case order == 1:
		return -1, nil
	case order == 2:
		return 1, nil
	case order > 2:
		return 2, nil
	}
	return 0, nil
}
