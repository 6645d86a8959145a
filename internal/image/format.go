// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"google.golang.org/protobuf/proto"
)

// Version is the format version that this package writes. Numbers are never
// used again; docs/format.md says what each one changed.
const Version uint32 = 2

// ForeignVersion is the version of images that another provider has made
// (imagepb.Foreign): who does not know of these would resume an empty job.
const ForeignVersion uint32 = 3

// CheckedVersion is the version of those whose provider has checksums of its own:
// the manifest has none of the saved files, which only the provider can verify.
const CheckedVersion uint32 = 4

// oldest is the oldest format version that this package reads.
const oldest uint32 = 1

// ChunkSize is the most raw bytes in a chunk.
const ChunkSize = 1 << 20

// align is the unit of chunks and of extents. It is the alignment that O_DIRECT
// asks for on every file system we know of, and the smallest page size of
// Linux; on hosts with larger pages an extent is several units a page.
const align = 4096

const (
	manifestName = "manifest"
	metaName     = "meta.pb"
	indexName    = "index.pb"
	pagesName    = "pages.img"
	filesDir     = "files"
)

// Part of the format: the first bytes of pages.img.
const pagesMagic = "eskypage"

// header returns the first block of pages.img. It depends on nothing but the
// version, so a reader compares all of it.
func header(version uint32) []byte {
	h := make([]byte, align)
	copy(h, pagesMagic)
	binary.LittleEndian.PutUint32(h[8:], version)
	binary.LittleEndian.PutUint32(h[12:], align)
	binary.LittleEndian.PutUint32(h[16:], ChunkSize)
	return h
}

func checkHeader(h []byte, version uint32) error {
	want := header(version)
	if len(h) != len(want) {
		return fmt.Errorf("header of %d bytes, want %d", len(h), len(want))
	}
	for i := range h {
		if h[i] != want[i] {
			return fmt.Errorf("header byte %d is %#02x, want %#02x", i, h[i], want[i])
		}
	}
	return nil
}

func decodeMeta(b []byte) (*imagepb.Image, error) {
	m := new(imagepb.Image)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, err
	}
	return m, nil
}

// decodeIndex also checks that the chunks cover the file of the given size
// without gap or overlap, so that reading one needs no further bounds checks.
func decodeIndex(b []byte, size int64) (*imagepb.PageIndex, error) {
	x := new(imagepb.PageIndex)
	if err := proto.Unmarshal(b, x); err != nil {
		return nil, err
	}
	end := uint64(align)
	for i, c := range x.Chunks {
		if c.FileOffset != end {
			return nil, fmt.Errorf("chunk %d at %d, want %d", i, c.FileOffset, end)
		}
		if err := checkChunk(c); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		end += uint64(padded(int(c.StoredLen)))
	}
	if end != uint64(size) {
		return nil, fmt.Errorf("chunks end at %d, the file at %d", end, size)
	}
	if err := checkShared(x); err != nil {
		return nil, err
	}
	return x, nil
}

func checkChunk(c *imagepb.Chunk) error {
	switch {
	case c.RawLen == 0 || c.RawLen > ChunkSize || c.RawLen%align != 0:
		return fmt.Errorf("raw length %d", c.RawLen)
	case c.StoredLen == 0 || c.StoredLen > c.RawLen:
		return fmt.Errorf("stored length %d of %d", c.StoredLen, c.RawLen)
	case c.Codec == imagepb.Chunk_RAW && c.StoredLen != c.RawLen:
		return fmt.Errorf("stored length %d of %d, not encoded", c.StoredLen, c.RawLen)
	case c.Codec < imagepb.Chunk_RAW || c.Codec > imagepb.Chunk_ZSTD:
		return fmt.Errorf("codec %d", c.Codec)
	case c.Pid < 0:
		return fmt.Errorf("pid %d", c.Pid)
	}
	return checkExtents(c.Extents, uint64(c.RawLen))
}

func checkExtents(extents []*imagepb.Extent, rawLen uint64) error {
	var sum uint64
	for i, e := range extents {
		n := uint64(e.GetPages()) * align
		if n == 0 || n > rawLen || e.Addr%align != 0 || e.Addr+n < e.Addr {
			return fmt.Errorf("extent %d: %d pages at %#x", i, e.GetPages(), e.GetAddr())
		}
		sum += n
	}
	if sum != rawLen {
		return fmt.Errorf("extents of %d bytes, chunk of %d", sum, rawLen)
	}
	return nil
}

// padded rounds up to whole units.
func padded(n int) int { return (n + align - 1) &^ (align - 1) }

// allZero tells whether padding is what it must be.
func allZero(b []byte) bool {
	return len(bytes.TrimLeft(b, "\x00")) == 0
}
