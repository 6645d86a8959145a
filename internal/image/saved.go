// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// savedWriter writes a saved file and its line of the manifest.
type savedWriter struct {
	w    *Writer
	f    *os.File
	name string
	hash hash.Hash
	size int64
	err  error

	sparse bool // the last piece was a hole
}

func (s *savedWriter) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.put(b)
	s.hash.Write(b[:n])
	s.size += int64(n)
	s.w.written.Add(int64(n))
	if err != nil {
		s.err = err // Close tells the Writer
	}
	return n, err
}

// put writes b, or leaves a hole where there is nothing in it.
func (s *savedWriter) put(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // what was last stays last
	}
	s.sparse = isZero(b)
	if !s.sparse {
		return s.f.Write(b)
	}
	_, err := s.f.Seek(int64(len(b)), io.SeekCurrent)
	return len(b), err
}

// syncsAtATime is how many saved files are made durable side by side. A journal
// writes all that wait for it at once, so that many take little longer than one.
const syncsAtATime = 64

// Close makes the file part of the image. It becomes durable meanwhile, and Finish
// waits for that.
func (s *savedWriter) Close() error {
	if errors.Is(s.err, os.ErrClosed) {
		return s.err
	}
	err := s.err
	if err == nil && s.sparse { // a hole at the end
		err = s.f.Truncate(s.size)
	}
	s.err = os.ErrClosed
	if err != nil {
		return s.closed(err)
	}
	s.w.syncing <- struct{}{}
	s.w.syncs.Go(func() {
		_ = s.closed(s.f.Sync()) // the Writer remembers
		<-s.w.syncing
	})
	return nil
}

// closed ends the work on a file with the error that there was in it.
func (s *savedWriter) closed(err error) error {
	if cerr := s.f.Close(); err == nil {
		err = cerr
	}
	w := s.w
	if err != nil {
		err = w.fail(fmt.Errorf("save %s: %w", s.f.Name(), err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	if err == nil {
		w.man.add(entry{s.name, s.size, sum(s.hash.Sum(nil))})
	}
	return err
}

// savedReader reads a saved file and checks it on the way. The error comes with
// the last bytes or after them: what was read before is only good when io.EOF
// has been seen.
type savedReader struct {
	dir  string
	f    *os.File
	want entry
	hash hash.Hash
}

func (s *savedReader) Read(b []byte) (int, error) {
	n, err := s.f.Read(b)
	s.hash.Write(b[:n])
	switch {
	case errors.Is(err, io.EOF) && sum(s.hash.Sum(nil)) != s.want.sum:
		return n, &DamagedError{s.dir, s.want.name, errChecksum}
	case errors.Is(err, io.EOF):
		return n, io.EOF
	case err != nil:
		return n, ioError(s.dir, s.want.name, err)
	}
	return n, nil
}

func (s *savedReader) Close() error { return s.f.Close() }

// syncDir makes the names in a directory durable.
func syncDir(d *os.File) error {
	err := d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		// Some network file systems have no fsync of directories (fsync(2),
		// EINVAL); there the server orders them.
		return nil
	}
	return err
}
