// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fileSystem is every operation by which the store changes storage, so that
// tests can record their order and let each of them fail.
type fileSystem interface {
	Mkdir(path string) error                 // 0700
	WriteNew(path string, data []byte) error // 0600, exclusive, fsynced
	Copy(ctx context.Context, from, to string) error
	Rename(from, to string) error    // replaces files
	RenameDir(from, to string) error // never replaces anything
	Sync(dir string) error           // the names in a directory
	Remove(path string) error        // one file
	RemoveAll(path string) error
}

type osFS struct{}

func (osFS) Mkdir(path string) error { return os.Mkdir(path, 0o700) }

func (osFS) WriteNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// copyPiece is what is copied between two looks at whether to go on.
const copyPiece = 16 << 20

// Copy makes a new file, 0600 and fsynced, of a regular one.
func (osFS) Copy(ctx context.Context, from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := io.CopyN(out, in, copyPiece)
		if err == io.EOF {
			return errors.Join(out.Sync(), out.Close())
		}
		if err != nil {
			return err
		}
	}
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) RenameDir(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// NFS and others do not know the flag (rename(2), EINVAL). An image is
		// never empty, and a directory that is not empty is never replaced.
		err = unix.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (osFS) Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		// Some network file systems have no fsync of directories (fsync(2),
		// EINVAL); there the server orders them.
		return nil
	}
	return err
}

func (osFS) Remove(path string) error    { return os.Remove(path) }
func (osFS) RemoveAll(path string) error { return os.RemoveAll(path) }
