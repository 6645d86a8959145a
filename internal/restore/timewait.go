// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/socket"
)

// longestTimeWait is TCP_TIMEWAIT_LEN of the kernel, and some more.
const longestTimeWait = 65 * time.Second

// awaitPort tries again while nothing but what is left of connections keeps a TCP
// port: a job that was killed leaves such behind for a minute, and SO_REUSEADDR
// helps only against those of sockets that had it too (inet_csk_bind_conflict
// in the kernel).
func awaitPort(name []byte, try func() error) error {
	err := try()
	for end := time.Now().Add(longestTimeWait); errors.Is(err, unix.EADDRINUSE) && time.Now().Before(end); err = try() {
		if portInUse(socket.TCPTable(), name) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

// portInUse says that somebody has a socket with the port of name. What is left of a
// connection (TIME_WAIT) is nobody's and has no inode.
func portInUse(table []socket.Row, name []byte) bool {
	want, _ := socket.Address(name)
	for _, row := range table {
		if have, ok := socket.Address(row.Local); ok && have.Port() == want.Port() && row.Ino != 0 {
			return true
		}
	}
	return false
}
