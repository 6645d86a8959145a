// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/plugin"
)

// AsError keeps what can be kept of an error.
func AsError(err error) *plugin.Error {
	var e *plugin.Error
	if err == nil || errors.As(err, &e) {
		return e
	}
	kind := plugin.Internal
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS):
		kind = plugin.Storage
	case errors.Is(err, fs.ErrNotExist):
		kind = plugin.NotFound
	}
	return &plugin.Error{Kind: kind, Text: err.Error()}
}

// WriteFile writes a file which is either complete or not there.
func WriteFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes names last (fsync(2): "an explicit fsync() on a file descriptor for
// the directory is also needed").
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
