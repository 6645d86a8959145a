// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mqAttr is struct mq_attr.
type mqAttr struct {
	Flags, MaxMsg, MsgSize, CurMsgs int64
	_                               [4]int64
}

// mqGetattr is mq_getattr(3).
func mqGetattr(fd int) (attr mqAttr, err error) {
	_, _, errno := unix.Syscall(unix.SYS_MQ_GETSETATTR, uintptr(fd), 0, uintptr(unsafe.Pointer(&attr)))
	if errno != 0 {
		err = errno
	}
	return attr, err
}

// mqReceive is mq_receive(3).
func mqReceive(fd int, buf []byte) (n int, priority uint32, err error) {
	got, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))),
		uintptr(len(buf)), uintptr(unsafe.Pointer(&priority)), 0, 0)
	if errno != 0 {
		return 0, 0, errno
	}
	return int(got), priority, nil
}

// mqSend is mq_send(3).
func mqSend(fd int, b []byte, priority uint32) error {
	_, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), uintptr(priority), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
