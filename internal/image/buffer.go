// SPDX-License-Identifier: Apache-2.0

package image

import "golang.org/x/sys/unix"

// NewBuffer returns a page-aligned buffer of ChunkSize bytes, as O_DIRECT needs
// it. It is outside the Go heap: give it back with FreeBuffer.
func NewBuffer() []byte { return newBuffer(ChunkSize) }

// FreeBuffer gives a buffer of NewBuffer back, whatever part of it b shows from
// its beginning on.
func FreeBuffer(b []byte) {
	if cap(b) == 0 {
		return
	}
	// EINVAL: it came from make (see newBuffer), or was freed before.
	_ = unix.Munmap(b[:cap(b)])
}

func newBuffer(size int) []byte {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		// Out of mappings (vm.max_map_count). Go places large objects at page
		// boundaries too; were it not so, O_DIRECT would say EINVAL and the
		// bytes go through the page cache.
		return make([]byte, size)
	}
	return b
}

// pool keeps scratch buffers between calls. It is no sync.Pool because that
// drops buffers without unmapping them.
type pool struct{ free chan []byte }

// scratchSize leaves room for the worst case of both encoders, so that they
// encode in place: MaxEncodedLen of s2 is the larger, n + n/255 and a little.
const scratchSize = ChunkSize + ChunkSize/16

func newPool() *pool { return &pool{free: make(chan []byte, 64)} }

func (p *pool) get() []byte {
	select {
	case b := <-p.free:
		return b
	default:
		return newBuffer(scratchSize)
	}
}

func (p *pool) put(b []byte) {
	select {
	case p.free <- b:
	default:
		FreeBuffer(b)
	}
}

func (p *pool) close() {
	for {
		select {
		case b := <-p.free:
			FreeBuffer(b)
		default:
			return
		}
	}
}
