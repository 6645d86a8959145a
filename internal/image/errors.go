// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// DamagedError says that an image is not what was written: it must not be
// resumed, and an older generation may be good.
type DamagedError struct {
	Dir  string // of the image
	What string // the part that is damaged, for people
	Err  error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("image %s is damaged: %s: %v", e.Dir, e.What, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// UnsafeError says that somebody else could have written an image, or that
// this user may not read it. Nothing of it was looked at.
type UnsafeError struct {
	Dir, Path string // Path is below Dir, or Dir itself
	What      string
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("image %s is not safe to use: %s %s", e.Dir, e.Path, e.What)
}

// VersionError says that an image is intact but of a format version that this
// program cannot read.
type VersionError struct {
	Dir        string
	Have, Want uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("image %s has format version %d, this program reads up to %d", e.Dir, e.Have, e.Want)
}

var errClosed = errors.New("image is closed already")

// damageErrnos are those by which storage says that content is lost. Others,
// such as EMFILE or ENOMEM, say nothing about the image: taking them for damage
// would make a job fall back to an older generation for no reason.
var damageErrnos = []unix.Errno{
	unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENXIO,
	unix.EIO, unix.EBADMSG, unix.EUCLEAN, unix.ENODATA, unix.EREMOTEIO,
}

// ioError puts an error of the file system into the right class.
func ioError(dir, what string, err error) error {
	for _, e := range damageErrnos {
		if errors.Is(err, e) {
			return &DamagedError{dir, what, err}
		}
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return &UnsafeError{dir, what, "may not be read by this user"}
	}
	return fmt.Errorf("image %s: read %s: %w", dir, what, err)
}
