// SPDX-License-Identifier: Apache-2.0

package pages

import "unsafe"

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }
