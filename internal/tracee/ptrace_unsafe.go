// SPDX-License-Identifier: Apache-2.0

package tracee

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests that golang.org/x/sys/unix does not wrap; numbers from
// include/uapi/linux/ptrace.h.
const (
	ptraceGetSiginfo    = 0x4202
	ptracePeekSiginfo   = 0x4209
	ptraceGetSigmask    = 0x420a
	ptraceSetSigmask    = 0x420b
	ptraceGetRseqConfig = 0x420f
	ptraceGetDispatch   = 0x4211 // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
	ntX86Xstate         = 0x202
	peekSiginfoShared   = 1
	siginfoSize         = 128
	maxXstate           = 1 << 16
	sigsetSize          = 8
)

func ptrace(req, tid int, addr, data uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ptraceBlocking is for a request that may take its time: other goroutines run on.
func ptraceBlocking(req, tid int, data uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), 0, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Xstate returns the extended state (x87, SSE, AVX, …) in the kernel's own
// layout; its size is this CPU's xsave size.
func Xstate(tid int) ([]byte, error) {
	buf := make([]byte, 16384)
	for {
		iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
		err := ptrace(unix.PTRACE_GETREGSET, tid, ntX86Xstate, uintptr(unsafe.Pointer(&iov)))
		if err != nil {
			return nil, wrap("read the vector state of", tid, err)
		}
		if int(iov.Len) < len(buf) || len(buf) >= maxXstate {
			return buf[:iov.Len], nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// SetXstate is the reverse of Xstate.
func SetXstate(tid int, state []byte) error {
	iov := unix.Iovec{Base: &state[0], Len: uint64(len(state))}
	return wrap("set the vector state of", tid,
		ptrace(unix.PTRACE_SETREGSET, tid, ntX86Xstate, uintptr(unsafe.Pointer(&iov))))
}

// Sigmask returns the blocked signals: the real mask even inside sigsuspend(2)
// and its like, where the kernel keeps it apart as saved_sigmask.
func Sigmask(tid int) (uint64, error) {
	var mask uint64
	err := ptrace(ptraceGetSigmask, tid, sigsetSize, uintptr(unsafe.Pointer(&mask)))
	return mask, wrap("read the signal mask of", tid, err)
}

// SetSigmask sets the blocked signals.
func SetSigmask(tid int, mask uint64) error {
	return wrap("set the signal mask of", tid,
		ptrace(ptraceSetSigmask, tid, sigsetSize, uintptr(unsafe.Pointer(&mask))))
}

// byKernel says that the signal a thread is stopped for comes from the kernel, as
// that of a breakpoint does, and not from another process (si_code, sigaction(2)).
func byKernel(tid int) (bool, error) {
	code, err := signalCode(tid)
	return code > 0, err
}

// signalCode is the si_code of the signal that a thread is stopped for.
func signalCode(tid int) (int32, error) {
	info, err := signalInfo(tid)
	return info.code, err
}

// siginfo is what matters of a siginfo_t, see sigaction(2).
type siginfo struct {
	code int32
	addr uint64 // of a fault
}

func signalInfo(tid int) (siginfo, error) {
	var info [siginfoSize]byte
	err := ptrace(ptraceGetSiginfo, tid, 0, uintptr(unsafe.Pointer(&info[0])))
	const siCode, siAddr = 8, 16
	return siginfo{
		code: int32(binary.LittleEndian.Uint32(info[siCode:])),
		addr: binary.LittleEndian.Uint64(info[siAddr:]),
	}, wrap("read the signal of", tid, err)
}

// Pending returns the queued siginfo_t structures of the thread, or of the
// whole process with shared, in the order of their delivery.
func Pending(tid int, shared bool) ([][]byte, error) {
	const batch = 32
	var all [][]byte
	for {
		args := struct {
			off   uint64
			flags uint32
			nr    int32
		}{off: uint64(len(all)), nr: batch}
		if shared {
			args.flags = peekSiginfoShared
		}
		buf := make([]byte, batch*siginfoSize)
		n, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, ptracePeekSiginfo, uintptr(tid),
			uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&buf[0])), 0, 0)
		if errno != 0 {
			return nil, wrap("read the pending signals of", tid, errno)
		}
		for i := 0; i < int(n); i++ {
			all = append(all, buf[i*siginfoSize:(i+1)*siginfoSize])
		}
		if n == 0 { // fewer than asked for are not the last: the kernel stops at a signal of ours, too
			return all, nil
		}
	}
}

// Rseq is a thread's registration of a restartable-sequences area (rseq(2)).
type Rseq struct {
	Ptr   uint64
	Size  uint32
	Sig   uint32
	Flags uint32
	_     uint32
}

// RseqConfig returns the registration; Ptr is 0 where there is none or the
// kernel (before 5.13) cannot tell.
func RseqConfig(tid int) (Rseq, error) {
	var r Rseq
	err := ptrace(ptraceGetRseqConfig, tid, unsafe.Sizeof(r), uintptr(unsafe.Pointer(&r)))
	if err == unix.EIO || err == unix.EINVAL {
		return Rseq{}, nil
	}
	return r, wrap("read the rseq registration of", tid, err)
}

// RobustList returns the head and length given to set_robust_list(2).
func RobustList(tid int) (head, length uint64, err error) {
	_, _, errno := unix.RawSyscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid),
		uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&length)))
	if errno != 0 {
		return 0, 0, wrap("read the robust list of", tid, errno)
	}
	return head, length, nil
}

// ReadMemory fills buf from the address space of pid.
func ReadMemory(pid int, addr uint64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	return transfer(unix.SYS_PROCESS_VM_READV, "read", pid, addr, buf)
}

// WriteMemory copies buf into the address space of pid.
func WriteMemory(pid int, addr uint64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	return transfer(unix.SYS_PROCESS_VM_WRITEV, "write", pid, addr, buf)
}

func transfer(nr uintptr, what string, pid int, addr uint64, buf []byte) error {
	local := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	remote := unix.RemoteIovec{Base: uintptr(addr), Len: len(buf)}
	n, _, errno := unix.Syscall6(nr, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return fmt.Errorf("%s %d bytes of pid %d at %#x: %w", what, len(buf), pid, addr, gone(errno))
	}
	if int(n) != len(buf) {
		return fmt.Errorf("%s pid %d at %#x: only %d of %d bytes are mapped", what, pid, addr, n, len(buf))
	}
	return nil
}

// DispatchesSyscalls says that the thread has system calls turned into signals
// (PR_SET_SYSCALL_USER_DISPATCH of prctl(2)); a kernel before Linux 6.4 will not say.
func DispatchesSyscalls(tid int) bool {
	var config struct{ mode, selector, offset, length uint64 }
	err := ptrace(ptraceGetDispatch, tid, unsafe.Sizeof(config), uintptr(unsafe.Pointer(&config)))
	return err == nil && config.mode != 0
}
