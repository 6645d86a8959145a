// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pageFile is pages.img, opened twice: by O_DIRECT, which neither copies nor
// fills the page cache that the job needs, and in the ordinary way for file
// systems and moments that refuse O_DIRECT.
type pageFile struct {
	buffered *os.File
	direct   blockFile   // nil where the file system has no O_DIRECT
	refused  atomic.Bool // O_DIRECT opened, but a write said EINVAL
}

type blockFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// openPages opens pages.img for writing or reading, as flags say.
func (d *directory) openPages(flags int) (*pageFile, error) {
	f, err := d.open(pagesName, flags)
	if err != nil {
		return nil, err
	}
	p := &pageFile{buffered: f}
	// Any error means the same: do without. tmpfs before Linux 6.6 says EINVAL.
	access := flags &^ (unix.O_CREAT | unix.O_EXCL)
	g, err := d.open(pagesName, access|unix.O_DIRECT)
	switch {
	case err != nil:
	case sameFile(f, g):
		p.direct = g
	default:
		g.Close()
	}
	return p, nil
}

func sameFile(a, b *os.File) bool {
	ai, errA := a.Stat()
	bi, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(ai, bi)
}

// writeAt writes all of b. Both descriptors may be used on one file: requests
// never overlap, and open(2) asks for no more than that.
func (p *pageFile) writeAt(b []byte, off int64) error {
	n := 0
	if p.direct != nil && !p.refused.Load() {
		var err error
		if n, err = p.direct.WriteAt(b, off); !errors.Is(err, unix.EINVAL) {
			return err
		}
		p.refused.Store(true)
	}
	_, err := p.buffered.WriteAt(b[n:], off+int64(n))
	return err
}

// readAt fills b. EINVAL concerns this buffer only: another may be aligned.
func (p *pageFile) readAt(b []byte, off int64) error {
	n := 0
	if p.direct != nil {
		var err error
		if n, err = p.direct.ReadAt(b, off); !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	_, err := p.buffered.ReadAt(b[n:], off+int64(n))
	return err
}

func (p *pageFile) close() error {
	if p.direct != nil {
		p.direct.Close()
	}
	return p.buffered.Close()
}
