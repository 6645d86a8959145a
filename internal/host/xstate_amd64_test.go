// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xstateOf gives the NT_X86_XSTATE of a stopped process.
func xstateOf(pid int) ([]byte, error) {
	const ntX86Xstate = 0x202
	buf := make([]byte, 64<<10)
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(pid), ntX86Xstate, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	return buf[:iov.Len], nil
}

// xcr0Of reads the mask that the kernel puts into the software-reserved bytes
// (struct _fpx_sw_bytes).
func xcr0Of(xstate []byte) uint64 { return binary.LittleEndian.Uint64(xstate[464:]) }
