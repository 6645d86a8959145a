// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoReflink says that the file system cannot make a file that shares the
// blocks of another, or not of one that lies elsewhere.
var ErrNoReflink = errors.New("no reflink")

// Reflink adds the saved file files/NAME with what src has in it at this moment,
// by sharing its blocks (FICLONE of ioctl_ficlone(2)), which takes no longer for
// a large file than for a small one. The hash that the manifest needs is made by
// the function it returns, which may be called later and must be called.
func (w *Writer) Reflink(name string, src *os.File) (finish func() error, err error) {
	dst, err := w.CreateFile(name)
	if err != nil {
		return nil, err
	}
	s := dst.(*savedWriter)
	if err := unix.IoctlFileClone(int(s.f.Fd()), int(src.Fd())); err != nil {
		if dropErr := w.Discard(dst); dropErr != nil {
			return nil, dropErr
		}
		return nil, fmt.Errorf("%w: %w", ErrNoReflink, err)
	}
	return func() error {
		r, err := os.Open(s.f.Name())
		if err == nil {
			s.size, err = io.Copy(s.hash, r)
			r.Close()
		}
		if err != nil {
			s.err = err
		}
		return s.Close()
	}, nil
}

// Discard takes back a saved file that was not closed yet, as if CreateFile had
// never been called.
func (w *Writer) Discard(f io.WriteCloser) error {
	s := f.(*savedWriter)
	s.err = os.ErrClosed
	s.f.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	dir := int(w.dir.f.Fd())
	if err := unix.Unlinkat(dir, s.name, 0); err != nil {
		return fmt.Errorf("remove %s/%s: %w", w.dir.path, s.name, err)
	}
	// An image without saved files has no directory for them.
	if err := unix.Unlinkat(dir, filesDir, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("remove %s/%s: %w", w.dir.path, filesDir, err)
	}
	return nil
}

// hole is the least run of zeros that is left out of a saved file.
const hole = 64 << 10

var zeros [hole]byte

// isZero says that there are only zeros in b, a whole hole of them at least.
func isZero(b []byte) bool {
	return len(b) >= hole && string(b[:hole]) == string(zeros[:]) && (len(b) == hole || isZeroTail(b[hole:]))
}

func isZeroTail(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), hole)
		if string(b[:n]) != string(zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
