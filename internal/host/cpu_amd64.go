// SPDX-License-Identifier: Apache-2.0

package host

import (
	"slices"
	"strings"
)

// Families of instructions by the beginning of their names in /proc/cpuinfo
// (arch/x86/include/asm/cpufeatures.h), so that members to come are known too.
var families = []string{"avx", "amx_", "sse", "ssse", "sha_ni", "sha512", "sm3", "sm4", "bmi", "fma", "xop", "3dnow", "mmx", "apx"}

// Instructions that belong to no family. Not among them: what only makes the
// same instructions faster (erms, fsrm) and what only a kernel uses (xsaves).
var instructions = strings.Fields(`
	fpu cx8 cmov fxsr clflush tsc rdtscp pni pclmulqdq cx16 movbe popcnt aes xsave f16c rdrand lahf_lm abm
	misalignsse lwp tbm mwaitx fsgsbase hle rtm rdseed adx clflushopt clwb xsaveopt xsavec xgetbv1
	gfni vaes vpclmulqdq rdpid ospke waitpkg cldemote movdiri movdir64b enqcmd serialize tsxldtrk uintr
	cmpccxadd raoint clzero rdpru ptwrite user_shstk
`)

func programCanUse(flag string) bool {
	return slices.Contains(instructions, flag) ||
		slices.ContainsFunc(families, func(f string) bool { return strings.HasPrefix(flag, f) })
}

// Implemented in cpu_amd64.s.
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
func xgetbv() (eax, edx uint32)

const osxsave = 1 << 27 // CPUID.1:ECX

// extendedState asks the processor which components of its state the kernel
// has enabled and how long the XSAVE area with them is (Intel SDM volume 1,
// chapter 13). Length and offsets differ between makers even for the same
// components; the area in an image has those of the host that wrote it.
func extendedState() (xcr0 uint64, size uint32) {
	if _, _, ecx, _ := cpuid(1, 0); ecx&osxsave == 0 {
		return 0, 0
	}
	lo, hi := xgetbv()
	_, size, _, _ = cpuid(0xd, 0)
	return uint64(hi)<<32 | uint64(lo), size
}
