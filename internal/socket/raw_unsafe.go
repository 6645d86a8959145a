// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// familyLen is sizeof(sa_family_t): a name that is no longer is none.
const familyLen = 2

// nameRoom is more than sizeof(struct sockaddr_storage).
const nameRoom = 256

// Name is getsockname(2); nil where the socket has no name.
func Name(fd int) ([]byte, error) { return name(unix.SYS_GETSOCKNAME, fd) }

// PeerName is getpeername(2).
func PeerName(fd int) ([]byte, error) { return name(unix.SYS_GETPEERNAME, fd) }

func name(nr uintptr, fd int) ([]byte, error) {
	buf, n := make([]byte, nameRoom), uint32(nameRoom)
	_, _, errno := unix.RawSyscall(nr, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return nil, errno
	}
	if n <= familyLen {
		return nil, nil
	}
	return buf[:min(n, nameRoom)], nil
}

// Option is getsockopt(2).
func Option(fd, level, option int) ([]byte, error) {
	buf, n := make([]byte, nameRoom), uint32(nameRoom)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return nil, errno
	}
	return buf[:min(n, nameRoom)], nil
}

// SetOption is setsockopt(2).
func SetOption(fd, level, option int, value []byte) error {
	if len(value) == 0 {
		value = make([]byte, 1)[:0:1]
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0)
	return result(errno)
}

// Bind is bind(2).
func Bind(fd int, name []byte) error { return withName(unix.SYS_BIND, fd, name) }

// Connect is connect(2).
func Connect(fd int, name []byte) error { return withName(unix.SYS_CONNECT, fd, name) }

func withName(nr uintptr, fd int, name []byte) error {
	_, _, errno := unix.Syscall(nr, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(len(name)))
	return result(errno)
}

// Received is what recvmsg(2) has given.
type Received struct {
	Data, Control, From []byte
	Flags               int
}

// Receive is recvmsg(2) into buf and control.
func Receive(fd, flags int, buf, control []byte) (Received, error) {
	from := make([]byte, nameRoom)
	iov := unix.Iovec{Base: unsafe.SliceData(buf)}
	iov.SetLen(len(buf))
	msg := unix.Msghdr{Name: &from[0], Namelen: nameRoom, Iov: &iov, Iovlen: 1, Control: unsafe.SliceData(control)}
	msg.SetControllen(len(control))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), uintptr(flags))
	if errno != 0 {
		return Received{}, errno
	}
	r := Received{Data: buf[:min(int(n), len(buf))], Control: control[:msg.Controllen], Flags: int(msg.Flags)}
	if msg.Namelen > familyLen {
		r.From = from[:min(msg.Namelen, nameRoom)]
	}
	return r, nil
}

// SendTo is sendto(2), which does not wait.
func SendTo(fd int, data, to []byte) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(unsafe.SliceData(to))), uintptr(len(to)))
	return int(n), result(errno)
}

func result(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
