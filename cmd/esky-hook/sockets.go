// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/guard"
)

// mostNames bounds what is looked at in a monitor's directory.
const mostNames = 1000

// monitors is the directory of a user's monitors.
func (j job) monitors() string { return "/tmp/esky-" + strconv.Itoa(j.user.UID) }

// eachName visits the names in a directory of monitors, if it is there. It lies in a
// place that everybody can write, so it must be the user's alone.
func eachName(path string, visit func(dir *guard.Dir, name string) error) error {
	dir, err := guard.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Names(mostNames)
	for _, name := range names {
		err = errors.Join(err, visit(dir, name))
	}
	return err
}

// removeDeadSockets removes the sockets that nobody listens at.
func removeDeadSockets(path string) error {
	return eachName(path, func(dir *guard.Dir, name string) error {
		if !isSocket(dir.Fd(), name) || !dead(dir.Fd(), name) {
			return nil
		}
		return dir.Remove(name)
	})
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
