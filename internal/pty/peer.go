// SPDX-License-Identifier: Apache-2.0

package pty

import "golang.org/x/sys/unix"

// openPeer is TIOCGPTPEER, whose argument is a number and whose result a
// descriptor.
func openPeer(master, flags int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, uintptr(flags))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
