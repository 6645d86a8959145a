// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Codec is how the chunks of an image are encoded. The zero value stores them
// as they are.
type Codec struct {
	Kind  imagepb.Chunk_Codec
	Level int // of zstd, 1 to 22
}

const defaultZstdLevel = 3

// ParseCodec understands none, s2, zstd and zstd:LEVEL.
func ParseCodec(s string) (Codec, error) {
	switch s {
	case "none":
		return Codec{}, nil
	case "s2":
		return Codec{Kind: imagepb.Chunk_S2}, nil
	case "zstd":
		return Codec{Kind: imagepb.Chunk_ZSTD, Level: defaultZstdLevel}, nil
	}
	if l, ok := strings.CutPrefix(s, "zstd:"); ok {
		level, err := strconv.Atoi(l)
		if err != nil || level < 1 || level > 22 {
			return Codec{}, fmt.Errorf("zstd level %q is not a number from 1 to 22", l)
		}
		return Codec{Kind: imagepb.Chunk_ZSTD, Level: level}, nil
	}
	return Codec{}, fmt.Errorf("compression %q is none of none, s2, zstd, zstd:LEVEL", s)
}

func (c Codec) String() string {
	switch c.Kind {
	case imagepb.Chunk_RAW:
		return "none"
	case imagepb.Chunk_S2:
		return "s2"
	case imagepb.Chunk_ZSTD:
		return "zstd:" + strconv.Itoa(c.Level)
	}
	return fmt.Sprintf("codec %d", c.Kind)
}

// encodeFunc encodes src into dst, or somewhere else where dst is too small.
type encodeFunc func(dst, src []byte) []byte

// encoder returns nil for the codec that does not encode.
func (c Codec) encoder() (encodeFunc, error) {
	switch c.Kind {
	case imagepb.Chunk_RAW:
		return nil, nil
	case imagepb.Chunk_S2:
		return func(dst, src []byte) []byte { return s2.Encode(dst[:cap(dst)], src) }, nil
	case imagepb.Chunk_ZSTD:
		return zstdEncoder(c.Level)
	}
	return nil, fmt.Errorf("codec %d is unknown", c.Kind)
}

func zstdEncoder(level int) (encodeFunc, error) {
	if level == 0 {
		level = defaultZstdLevel
	}
	// The chunk has its own hash, so the frame needs none. EncodeAll may be
	// called by several goroutines; each takes one of the encoder's states.
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithWindowSize(ChunkSize), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("zstd level %d: %w", level, err)
	}
	return func(dst, src []byte) []byte { return enc.EncodeAll(src, dst[:0]) }, nil
}

var errLength = errors.New("the decoded length is not what the index says")

// decode decodes src into dst, whose length is what must come out.
func decode(kind imagepb.Chunk_Codec, dst, src []byte) error {
	switch kind {
	case imagepb.Chunk_S2:
		return decodeS2(dst, src)
	case imagepb.Chunk_ZSTD:
		return decodeZstd(dst, src)
	}
	return fmt.Errorf("codec %d is unknown", kind)
}

func decodeS2(dst, src []byte) error {
	// Asked first, because Decode allocates what the data claims.
	n, err := s2.DecodedLen(src)
	if err != nil {
		return err
	}
	if n != len(dst) {
		return errLength
	}
	_, err = s2.Decode(dst, src)
	return err
}

// zstdDecoder serves all readers: DecodeAll keeps no state between calls. With
// a capacity limit it never allocates for a frame that claims more than dst.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
})

func decodeZstd(dst, src []byte) error {
	dec, err := zstdDecoder()
	if err != nil {
		return err
	}
	out, err := dec.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return err
	}
	if len(out) != len(dst) {
		return errLength
	}
	return nil
}
