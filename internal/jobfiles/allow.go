// SPDX-License-Identifier: Apache-2.0

package jobfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A mode counts only when a file is opened (open(2): it "applies only to future
// accesses of the newly created file"). git writes to files that it has made with
// mode 0444, cp and tar to such of 0400, others take the right away later. Such a
// file has to be opened once more.

// Open opens a file, also one whose mode denies it to the user that owns it.
func Open(path string, flags int) (*os.File, error) {
	deny, err := Allow(path, Need(flags))
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, flags, 0)
	return file, errors.Join(err, deny())
}

// Need is what a file is asked for with flags of open(2).
func Need(flags int) uint32 {
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		return unix.R_OK
	case unix.O_WRONLY:
		return unix.W_OK
	}
	return unix.R_OK | unix.W_OK
}

// Allow gives the owner of a file, if that is this user, what its mode denies:
// to read (unix.R_OK) and to write (unix.W_OK) it. deny takes that back.
func Allow(path string, need uint32) (deny func() error, err error) {
	nothing := func() error { return nil }
	err = unix.Faccessat(unix.AT_FDCWD, path, need, unix.AT_EACCESS)
	if !errors.Is(err, unix.EACCES) {
		return nothing, nil // who opens it will see what else is wrong
	}
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nothing, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return nothing, file.Close()
	}
	inode := fmt.Sprintf("/proc/self/fd/%d", file.Fd()) // fchmod(2) takes no O_PATH
	if err := unix.Chmod(inode, st.Mode|need<<6); err != nil {
		file.Close()
		return nothing, &fs.PathError{Op: "chmod", Path: path, Err: err}
	}
	return func() error {
		defer file.Close()
		return unix.Chmod(inode, st.Mode&0o7777)
	}, nil
}
