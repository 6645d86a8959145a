// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Take adds the file at path as the saved file files/NAME, without a copy: it is
// moved there, on the same file system, and made durable. It is read once, for its
// hash, if the image has such. Nobody may have it open for writing any more.
func (w *Writer) Take(name, path string) error {
	dst, err := w.CreateFile(name)
	if err != nil {
		return err
	}
	s := dst.(*savedWriter)
	if err := w.take(s, path); err != nil {
		s.err = fmt.Errorf("take %s: %w", path, err)
	}
	return s.Close()
}

// take puts the file in the place of the empty one that CreateFile has made, which
// was the proof that the name was free.
func (w *Writer) take(s *savedWriter, path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		f.Close()
		return errors.New("it is no ordinary file of ours")
	}
	err = f.Chmod(0o600)
	if err == nil {
		err = os.Rename(path, filepath.Join(w.dir.path, s.name))
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f.Close()
	s.f = f
	if _, summed := w.man.how(s.name); summed {
		s.size, err = io.Copy(s.hash, f)
	} else {
		s.size = st.Size
	}
	w.written.Add(s.size)
	return err
}
