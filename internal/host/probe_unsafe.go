// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args of clone3(2), as of Linux 5.7.
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal     uint64
	stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// cloneAsMyself asks for a child with the pid of the caller itself. That can
// never be had, but the kernel examines the right to choose first (alloc_pid in
// kernel/pid.c): EEXIST means that choosing is allowed, and no child is made.
func cloneAsMyself() error {
	pid := new(int32)
	*pid = int32(os.Getpid())
	// args has its address as a number: it must not move with the stack.
	var pin runtime.Pinner
	pin.Pin(pid)
	defer pin.Unpin()
	args := cloneArgs{
		exitSignal: uint64(unix.SIGCHLD),
		setTid:     uint64(uintptr(unsafe.Pointer(pid))), setTidSize: 1,
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	switch errno {
	case unix.EEXIST:
		return nil
	case 0:
		return errors.New("two processes with one pid")
	}
	return errno
}

// pmScanArg is struct pm_scan_arg, see ioctl_pagemap_scan(2).
type pmScanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, mask, anyofMask, returnMask                   uint64
}

const (
	pagemapScan   = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	pageIsPresent = 1 << 3
)

// pagemapCheck scans one page of this process (Linux 6.7 and later).
func pagemapCheck() Check {
	err := scanOwnPage()
	return verdict(CheckPagemap, false, "tells which pages must be saved", err, func(error) string {
		return "Linux 6.7 or newer; on older kernels checkpoints take longer"
	})
}

func scanOwnPage() error {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	page := uint64(os.Getpagesize())
	regions := new([1][3]uint64) // struct page_region
	var pin runtime.Pinner
	pin.Pin(regions)
	defer pin.Unpin()
	start := uint64(uintptr(unsafe.Pointer(regions))) &^ (page - 1)
	arg := pmScanArg{
		start: start, end: start + page, vec: uint64(uintptr(unsafe.Pointer(regions))), vecLen: 1,
		mask: pageIsPresent, returnMask: pageIsPresent,
	}
	arg.size = uint64(unsafe.Sizeof(arg))
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return fmt.Errorf("ioctl PAGEMAP_SCAN: %w", errno)
	}
	if n != 1 || regions[0][0] != start {
		return errors.New("PAGEMAP_SCAN does not find a page that is there")
	}
	return nil
}
