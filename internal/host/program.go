// SPDX-License-Identifier: Apache-2.0

package host

import (
	"debug/elf"
	"slices"
)

// NeedsNumbers says why a program cannot be shown process numbers that differ from
// the kernel's: "is static", or "is written in Go". It is empty for others, and for
// what is no ELF file.
func NeedsNumbers(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	goes := func(s *elf.Section) bool { return s.Name == ".go.buildinfo" }
	loaded := func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }
	switch {
	case slices.ContainsFunc(f.Sections, goes):
		return "is written in Go" // which makes its system calls itself
	case !slices.ContainsFunc(f.Progs, loaded):
		return "is static" // so nothing can be preloaded
	}
	return ""
}
