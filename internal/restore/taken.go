// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

// TakenError says that addresses of the job's sockets are in use on this host.
type TakenError struct{ Reasons []string }

func (e *TakenError) Error() string { return strings.Join(e.Reasons, "; ") }

// takenMeanwhile is the error for an address that somebody has taken since checkSockets
// found it free.
func takenMeanwhile(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return &TakenError{[]string{err.Error() + ": end the program that has it, or try again"}}
	}
	return err
}

// checkSockets looks, before anything is touched, whether the names of the job's
// sockets are free.
func (r *restorer) checkSockets() error {
	var taken []string
	for _, f := range r.meta.OpenFiles {
		if f.Kind != imagepb.OpenFile_SOCKET || f.Socket == nil {
			continue
		}
		check := checkUnixName
		if isInet(f.Socket) {
			check = checkInetName
		}
		if why := check(f.Socket); why != "" {
			taken = append(taken, why)
		}
	}
	if len(taken) > 0 {
		return &TakenError{taken}
	}
	return nil
}

func checkUnixName(s *imagepb.Socket) string {
	switch {
	case s.Path != "":
		return checkSocketFile(s)
	case isAbstract(s.Name) && !tryBind(s):
		return fmt.Sprintf("the abstract unix socket %q is in use on this host: end the program that has it", s.Name[3:])
	}
	return ""
}

// checkSocketFile looks at the path of a socket. A file of a socket that nobody
// has any more, mostly the job's own of before, will be replaced.
func checkSocketFile(s *imagepb.Socket) string {
	st, err := os.Lstat(s.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if dir := filepath.Dir(s.Path); unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
			return fmt.Sprintf("the socket %s cannot be made again: make the directory %s, with the right to write to it", s.Path, dir)
		}
		return ""
	case err != nil:
		return fmt.Sprintf("the socket %s: %v", s.Path, err)
	case st.Mode()&os.ModeSocket == 0:
		return fmt.Sprintf("%s was a socket of the job and is another file now: move it away", s.Path)
	}
	if alive(s) {
		return fmt.Sprintf("the socket %s is in use on this host: end the program that has it", s.Path)
	}
	return ""
}

// alive says that somebody has the socket behind a path. Nobody is told: a
// connection of another type is refused with EPROTOTYPE, where there is one.
func alive(s *imagepb.Socket) bool {
	other := unix.SOCK_DGRAM
	if s.Type == unix.SOCK_DGRAM {
		other = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(unix.AF_UNIX, other|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	dir, err := unix.Open(filepath.Dir(s.Path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	// An address has room for 108 bytes only.
	err = socket.Connect(fd, unixName(fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(s.Path))))
	return errors.Is(err, unix.EPROTOTYPE)
}

// tryBind says that the name of a socket can be bound.
func tryBind(s *imagepb.Socket) bool {
	fd, err := unix.Socket(int(s.Domain), int(s.Type)|unix.SOCK_CLOEXEC, int(s.Protocol))
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return socket.Bind(fd, s.Name) == nil
}
