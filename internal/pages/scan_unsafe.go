// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PAGEMAP_SCAN, Linux 6.7 (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagemapScan  = 0xc0606610
	isFile       = 1 << 2
	isPresent    = 1 << 3
	isSwapped    = 1 << 4
	isZeroPage   = 1 << 5
	isGuard      = 1 << 8 // since Linux 6.15
	regionsACall = 1024
)

type scanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages uint64
	inverted, mask, anyOf, returned                         uint64
}

type region struct{ start, end, categories uint64 }

var noPagemapScan, noGuards atomic.Bool

// Scan lists the ranges of [start, end) in which a private mapping of the
// process has pages of its own: present or swapped out, neither of the file nor
// the shared page of zeros. pagemap is the open /proc/PID/pagemap.
func Scan(pagemap *os.File, start, end uint64) ([]Range, error) {
	if !noPagemapScan.Load() {
		arg := scanArg{
			inverted: isFile | isZeroPage, mask: isFile | isZeroPage,
			anyOf: isPresent | isSwapped, returned: isPresent,
		}
		ranges, err := scanRegions(pagemap, start, end, arg)
		if err == nil && len(ranges) > 0 { // a guard looks like a page that was swapped out
			var guards []Range
			guards, err = Guards(pagemap, start, end)
			ranges = Subtract(ranges, guards)
		}
		if !errors.Is(err, unix.ENOTTY) {
			return ranges, err
		}
		noPagemapScan.Store(true) // older than 6.7
	}
	return scanEntries(pagemap, start, end)
}

// Guards lists the guard regions in [start, end) (MADV_GUARD_INSTALL of
// madvise(2)). Linux 6.13 and 6.14 have them and do not tell.
func Guards(pagemap *os.File, start, end uint64) ([]Range, error) {
	if noPagemapScan.Load() || noGuards.Load() {
		return nil, nil
	}
	ranges, err := scanRegions(pagemap, start, end, scanArg{mask: isGuard, returned: isGuard})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) {
		noGuards.Store(true)
		return nil, nil
	}
	return ranges, err
}

func scanRegions(pagemap *os.File, start, end uint64, arg scanArg) ([]Range, error) {
	var found []Range
	buf := make([]region, regionsACall)
	// The kernel is told by a number where buf is, so it must not move: not even
	// with this goroutine's stack, when that grows.
	var pin runtime.Pinner
	pin.Pin(&buf[0])
	defer pin.Unpin()
	for start < end {
		arg.start, arg.end, arg.walkEnd = start, end, 0
		arg.vec, arg.vecLen = uint64(uintptr(unsafe.Pointer(&buf[0]))), regionsACall
		arg.size = uint64(unsafe.Sizeof(arg))
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, pagemap.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno != 0 {
			return nil, fmt.Errorf("scan pages %#x-%#x: %w", start, end, errno)
		}
		for _, r := range buf[:n] {
			found = appendRange(found, Range{r.start, r.end})
		}
		if n < regionsACall {
			break
		}
		// The kernel fills the buffer in several walks, and leaves walk_end where
		// the one before the last ended if that one came to the end.
		start = max(arg.walkEnd, buf[n-1].end)
	}
	return found, nil
}

// scanEntries reads the page table entries one by one. They do not tell the
// shared page of zeros apart.
func scanEntries(pagemap *os.File, start, end uint64) ([]Range, error) {
	const present, swapped, file = 1 << 63, 1 << 62, 1 << 61
	var found []Range
	buf := make([]byte, 8*4096)
	for at := start; at < end; {
		want := min(uint64(len(buf)), (end-at)/PageSize*8)
		n, err := pagemap.ReadAt(buf[:want], int64(at/PageSize*8))
		if n == 0 && err != nil && err != io.EOF {
			return nil, fmt.Errorf("read pagemap at %#x: %w", at, err)
		}
		if n == 0 {
			break
		}
		for i := 0; i+8 <= n; i += 8 {
			entry := binary.LittleEndian.Uint64(buf[i:])
			if entry&(present|swapped) != 0 && entry&file == 0 {
				found = appendRange(found, Range{at, at + PageSize})
			}
			at += PageSize
		}
	}
	return found, nil
}

// processVMWrite copies b to the process, all of it or with an error.
func processVMWrite(pid int, b []byte, addr uint64) error {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
	n, err := unix.ProcessVMWritev(pid, local, remote, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	return err
}
