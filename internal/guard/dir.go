// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dir is a directory of the user's that is held open: whatever is renamed or put
// in its place afterwards, it stays the same one.
type Dir struct {
	f    *os.File
	path string // for messages
}

// beneath keeps a name inside of a directory: no link is followed, no mount point
// is crossed by "..", and /proc's links lead nowhere (openat2(2)).
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// ErrNotPrivate says that others than the user can change a directory.
var ErrNotPrivate = errors.New("others can change it")

// Open opens a directory. Links on the way are followed, for where a user may go
// is all that a user's process can reach; the last name must be the directory
// itself. It must belong to this process' user, and be writable by nobody else.
func Open(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return private(fd, path)
}

// Sub opens a directory below this one.
func (d *Dir) Sub(name string) (*Dir, error) {
	fd, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return private(fd, filepath.Join(d.path, name))
}

func private(fd int, path string) (*Dir, error) {
	d := &Dir{os.NewFile(uintptr(fd), path), path}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.Close()
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		d.Close()
		return nil, fmt.Errorf("%s is left alone: %w", path, ErrNotPrivate)
	}
	return d, nil
}

// Close closes it.
func (d *Dir) Close() { _ = d.f.Close() } // nothing was written by way of it

// Fd is its descriptor, for calls of the at kind.
func (d *Dir) Fd() int { return int(d.f.Fd()) }

// Path is where it was found, for messages.
func (d *Dir) Path() string { return d.path }

func (d *Dir) open(name string, flags uint64) (int, error) { return d.open2(name, flags, 0) }

func (d *Dir) open2(name string, flags, mode uint64) (int, error) {
	fd, err := unix.Openat2(d.Fd(), name, &unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Mode: mode, Resolve: beneath})
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	return fd, nil
}

// OpenFile opens a regular file for reading. What it is is seen before it is
// opened: a FIFO or a device is not touched. A file with a lease, which would
// hold an open(2) up for as long as its holder likes, is an error (EWOULDBLOCK).
func (d *Dir) OpenFile(name string) (*os.File, error) {
	at, err := d.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	where := filepath.Join(d.path, name)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: where, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is not a regular file", where)
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: where, Err: err}
	}
	return os.NewFile(uintptr(fd), where), nil
}

// ReadFile reads a small regular file; one of more than most bytes is an error,
// and is not read.
func (d *Dir) ReadFile(name string, most int) ([]byte, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(text) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", f.Name(), most)
	}
	return text, nil
}

// WriteFile makes a file, or replaces what has the name, in one step: nobody sees
// half of it, and what a link in its place leads to is not touched.
func (d *Dir) WriteFile(name string, text []byte) error {
	if filepath.Base(name) != name {
		return fmt.Errorf("%q is not a name", name)
	}
	temp := ".esky-" + rand.Text()
	fd, err := d.open2(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), filepath.Join(d.path, temp))
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = unix.Renameat(d.Fd(), temp, d.Fd(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", filepath.Join(d.path, name), err), d.Remove(temp))
	}
	return nil
}

// Names are those in the directory, at most so many; more is an error.
func (d *Dir) Names(most int) ([]string, error) {
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := d.f.Readdirnames(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > most {
		return nil, fmt.Errorf("%s has more than %d entries", d.path, most)
	}
	return names, nil
}

// Remove removes a name in the directory that is not a directory. A link is
// removed itself.
func (d *Dir) Remove(name string) error {
	if filepath.Base(name) != name {
		return fmt.Errorf("%q is not a name", name)
	}
	if err := unix.Unlinkat(d.Fd(), name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
	}
	return nil
}
