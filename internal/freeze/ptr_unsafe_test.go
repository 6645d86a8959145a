// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptr(e *unix.EpollEvent) uintptr { return uintptr(unsafe.Pointer(e)) }
