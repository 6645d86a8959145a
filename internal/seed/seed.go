// SPDX-License-Identifier: Apache-2.0

// Package seed has the smallest of all programs: a process that does nothing by
// itself and has nothing of its own, for a tracer to act through.
package seed

import (
	"bytes"
	"encoding/binary"
)

// ELF returns the executable: one page that waits for signals. A resumed job
// grows from it: the init executes it; the restorer takes it over, makes the
// processes of the job by cloning it, and kills it. It needs no libc, has one
// thread, and nothing in it has to be undone.
func ELF() []byte {
	code := []byte{
		0xb8, 34, 0, 0, 0, // mov $34 (pause), %eax
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp to the start
	}
	const headers = 64 + 56
	const base = 0x400000
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // 64-bit, little endian
	le([]uint16{2, 62})                                                      // ET_EXEC, EM_X86_64
	le(uint32(1))
	le([]uint64{base + headers, 64, 0}) // entry, program headers, no sections
	le(uint32(0))
	le([]uint16{64, 56, 1, 64, 0, 0})
	le([]uint32{1, 5}) // PT_LOAD, R X
	le([]uint64{0, base, base, headers + uint64(len(code)), headers + uint64(len(code)), 4096})
	b.Write(code)
	return b.Bytes()
}

// Syscall is the address of its system call instruction.
const Syscall = 0x400000 + 64 + 56 + 5
