// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	ErrNoJob       = errors.New("no such job in the store")
	ErrLocked      = errors.New("another incarnation of the job holds the store")
	ErrStale       = errors.New("a newer incarnation of the job has taken the store")
	ErrBusy        = errors.New("another checkpoint is being written")
	ErrNotWritable = errors.New("store is not writable")
)

// writeError is an ErrNotWritable that says what could not be written and why.
type writeError struct {
	path string
	err  error
}

func (e *writeError) Error() string {
	return fmt.Sprintf("%v: %s: %v", ErrNotWritable, e.path, e.err)
}

func (e *writeError) Unwrap() []error { return []error{ErrNotWritable, e.err} }

// storageErrnos are the reasons of a store rather than of this program.
var storageErrnos = []unix.Errno{
	unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EPERM, unix.EFBIG,
	unix.EIO, unix.ESTALE, unix.ENOENT, unix.ENOTDIR, unix.EMLINK, unix.ETIMEDOUT,
}

// WriteError turns an error of writing below path into one that wraps
// ErrNotWritable, where it is the store's fault: no space, no quota, no
// permission and the like. Others it returns as they are. It serves those who
// write into a Pending, too.
func WriteError(path string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrNotWritable) {
		return err
	}
	for _, e := range storageErrnos {
		if errors.Is(err, e) {
			return &writeError{path, err}
		}
	}
	return err
}
