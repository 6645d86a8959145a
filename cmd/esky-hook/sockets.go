// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/guard"
)

// mostSockets bounds what is looked at in a monitor's directory.
const mostSockets = 1000

// removeDeadSockets removes those sockets from a monitor's directory that
// nobody listens at. The directory lies in a place that everybody can write, so
// it must be the user's alone.
func removeDeadSockets(path string) error {
	dir, err := guard.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names(mostSockets)
	for _, name := range names {
		if isSocket(dir.Fd(), name) && dead(dir.Fd(), name) {
			err = errors.Join(err, dir.Remove(name))
		}
	}
	return err
}

func isSocket(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// dead tells whether a socket's listener is gone. Only ECONNREFUSED says so
// (unix(7)); a listener that is merely busy blocks or gives EAGAIN.
func dead(dir int, name string) bool {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	// By way of the directory's descriptor: the path's length is limited.
	path := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
	return errors.Is(unix.Connect(s, &unix.SockaddrUnix{Name: path}), unix.ECONNREFUSED)
}
