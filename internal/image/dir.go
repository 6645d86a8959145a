// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is an image's directory, held open: what is checked and what is
// used are the same files even where somebody renames directories meanwhile.
type directory struct {
	f    *os.File
	path string
}

func openDirectory(path string) (*directory, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &directory{f, path}, nil
}

// open opens a file below the directory by openat(2), never through a symbolic
// link. flags need no O_CLOEXEC.
func (d *directory) open(name string, flags int) (*os.File, error) {
	sub, base := filepath.Split(name)
	parent := d.f
	if sub != "" {
		var err error
		if parent, err = openat(d.f, strings.TrimSuffix(sub, "/"), unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return nil, fmt.Errorf("open %s: %w", sub, err)
		}
		defer parent.Close()
	}
	f, err := openat(parent, base, flags)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return f, nil
}

func openat(dir *os.File, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
		}
		if err != unix.EINTR { // possible on network file systems
			return nil, err
		}
	}
}

// names lists the directory, or the one below it that sub names.
func (d *directory) names(sub string) ([]string, error) {
	f, err := openat(d.f, sub, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *directory) close() { d.f.Close() }

// unsafeReason says why an open file may have been written by somebody else, or
// "" if it cannot.
func unsafeReason(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	return unsafeOwner(st.Uid, st.Mode, uint32(os.Geteuid())), nil
}

// unsafeOwner accepts files of this user and of root that nobody else can
// write. An ACL that lets others write shows in the group bits too (acl(5),
// "correspondence between ACL entries and file permission bits").
func unsafeOwner(uid, mode, euid uint32) string {
	switch {
	case uid != euid && uid != 0:
		return fmt.Sprintf("belongs to uid %d", uid)
	case mode&0o022 != 0:
		return fmt.Sprintf("can be written by others (mode %#o)", mode&0o7777)
	}
	return ""
}
