// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeDeadSockets removes those sockets from a monitor's directory that
// nobody listens at. The directory lies in a place that everybody can write, so
// it is opened without following links and must be the user's alone.
func removeDeadSockets(dir string, uid int) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	d := os.NewFile(uintptr(fd), dir)
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	if int(st.Uid) != uid || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not private to user %d: left as it is", dir, uid)
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	for _, name := range names {
		if isSocket(fd, name) && dead(fd, name) {
			err = errors.Join(err, unix.Unlinkat(fd, name, 0))
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
