// SPDX-License-Identifier: Apache-2.0

package tracee

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Regs are the general registers of a thread (struct user_regs_struct).
type Regs struct{ unix.PtraceRegs }

// Kernel-internal results of interrupted system calls (include/linux/errno.h).
const (
	RestartSys     = -512 // restart unless a handler without SA_RESTART runs
	RestartNoIntr  = -513 // restart always
	RestartNoHand  = -514 // restart unless a handler runs
	RestartBlock   = -516 // restart through restart_syscall(2), which knows the remaining time
	eflagsDefault  = 0x202
	userCode64     = 0x33
	noSyscall      = ^uint64(0)
	syscallInsnLen = 2
)

// GetRegs reads the registers of the stopped thread.
func GetRegs(tid int) (Regs, error) {
	var r Regs
	err := unix.PtraceGetRegs(tid, &r.PtraceRegs)
	return r, wrap("read the registers of", tid, err)
}

// SetRegs sets the registers of the stopped thread.
func SetRegs(tid int, r Regs) error {
	return wrap("set the registers of", tid, unix.PtraceSetRegs(tid, &r.PtraceRegs))
}

// IP is the address of the next instruction.
func (r *Regs) IP() uint64 { return r.Rip }

// SetIP moves the thread.
func (r *Regs) SetIP(ip uint64) { r.Rip = ip }

// Result is what the system call has left for the program.
func (r *Regs) Result() int64 { return int64(r.Rax) }

// SetResult sets it.
func (r *Regs) SetResult(v int64) { r.Rax = uint64(v) }

// Syscall is the number of the system call the thread is in or has just left,
// or -1.
func (r *Regs) Syscall() int { return int(int64(r.Orig_rax)) }

// SetSyscall changes it, for the kernel's restart logic.
func (r *Regs) SetSyscall(nr int) { r.Orig_rax = uint64(int64(nr)) }

// Arg returns argument i (0 to 5) of the system call.
func (r *Regs) Arg(i int) uint64 {
	return [...]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}[i]
}

// SetArg changes it.
func (r *Regs) SetArg(i int, v uint64) {
	*[...]*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[i] = v
}

// Is64Bit says that the thread runs 64-bit code.
func (r *Regs) Is64Bit() bool { return r.Cs == userCode64 }

// Rewind makes the thread issue its system call anew, with its arguments.
func (r *Regs) Rewind() {
	r.Rax = r.Orig_rax
	r.Rip -= syscallInsnLen
	r.Orig_rax = noSyscall
}

// forStub are the registers for a batch: rbx is the first record, rbp their
// number, r15 whether to stop at the first error. No stack: with rsp 0 the
// kernel can never take the thread to be on its alternate signal stack.
func (r Regs) forStub(code, records uint64, n int, stopOnError bool) Regs {
	r.Rip, r.Rbx, r.Rbp, r.R15 = code, records, uint64(n), 0
	if stopOnError {
		r.R15 = 1
	}
	r.Rsp, r.Eflags, r.Orig_rax = 0, eflagsDefault, noSyscall
	return r
}

// forSyscall are the registers for one system call at the syscall instruction at ip.
func (r Regs) forSyscall(ip uint64, c *Call) Regs {
	r.Rip, r.Rax, r.Orig_rax = ip, c.Nr, noSyscall
	for i, a := range c.Args {
		r.SetArg(i, a)
	}
	r.Eflags = eflagsDefault
	return r
}

// Encode returns the registers as the kernel lays them out.
func (r *Regs) Encode() []byte {
	b, err := binary.Append(nil, binary.LittleEndian, &r.PtraceRegs)
	if err != nil {
		panic(err) // a struct of uint64s always encodes
	}
	return b
}

// DecodeRegs is the reverse of Encode.
func DecodeRegs(b []byte) (Regs, error) {
	var r Regs
	if n, err := binary.Decode(b, binary.LittleEndian, &r.PtraceRegs); err != nil || n != len(b) {
		return r, fmt.Errorf("registers: %d bytes, want %d", len(b), binary.Size(&r.PtraceRegs))
	}
	return r, nil
}

// FindSyscallInsn returns the offset of a syscall instruction in code, or -1.
func FindSyscallInsn(code []byte) int {
	for i := 0; i+1 < len(code); i++ {
		if code[i] == 0x0f && code[i+1] == 0x05 {
			return i
		}
	}
	return -1
}
