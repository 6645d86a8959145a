// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rtSigqueueinfo is rt_sigqueueinfo(2).
func rtSigqueueinfo(pid, sig int, info []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(sig), uintptr(unsafe.Pointer(&info[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
