// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package host

// programCanUse: other architectures list in /proc/cpuinfo what programs can
// use (ELF hwcaps) and nothing else.
func programCanUse(string) bool { return true }

// extendedState is of x86 alone.
func extendedState() (xcr0 uint64, size uint32) { return 0, 0 }
