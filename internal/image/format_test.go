// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/klauspost/compress/s2"
	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/proto"
)

// reseal replaces the last line by one that is right for those before it.
func reseal(b []byte) []byte {
	if i := bytes.LastIndex(b, []byte(manifestEnd)); i >= 0 {
		b = b[:i]
	}
	return fmt.Appendf(bytes.Clone(b), "%s%x\n", manifestEnd, sha256.Sum256(b))
}

var hexSum = strings.Repeat("0a", 32)

// goodManifest is one with lines for all that must be there, in order.
func goodManifest(extra ...string) []byte {
	lines := append([]string{"esky-image 1"}, extra...)
	lines = append(lines, "index.pb 0 sha256:"+hexSum, "meta.pb 12 sha256:"+hexSum, "pages.img 4096 chunks", "")
	return reseal([]byte(strings.Join(lines, "\n")))
}

func TestManifestHasOneSpelling(t *testing.T) {
	good := goodManifest("files/0 5 sha256:"+hexSum, "files/10 5 sha256:"+hexSum, "files/9 5 sha256:"+hexSum)
	if m, err := parseManifest(good); err != nil || m.entries["files/10"].size != 5 || len(m.entries) != 6 {
		t.Fatalf("a good manifest: %v", err)
	}
	change := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("no %q", old)
		}
		return reseal(bytes.Replace(good, []byte(old), []byte(new), 1))
	}
	for what, b := range map[string][]byte{
		"nothing":           {},
		"only an end":       reseal(nil),
		"no end":            []byte("esky-image 1\n"),
		"no final newline":  good[:len(good)-1],
		"two ends":          fmt.Appendf(bytes.Clone(good), "%s%x\n", manifestEnd, sha256.Sum256(good)),
		"text after it":     append(bytes.Clone(good), '\n'),
		"other magic":       change("esky-image 1", "esky_image 1"),
		"no version":        change("esky-image 1", "esky-image "),
		"version zero":      change("esky-image 1", "esky-image 0"),
		"version 01":        change("esky-image 1", "esky-image 01"),
		"negative version":  change("esky-image 1", "esky-image -1"),
		"no index":          change("index.pb 0 sha256:"+hexSum+"\n", ""),
		"no metadata":       change("meta.pb 12 sha256:"+hexSum+"\n", ""),
		"no pages":          change("pages.img 4096 chunks\n", ""),
		"pages with a sum":  change("pages.img 4096 chunks", "pages.img 4096 sha256:"+hexSum),
		"meta without sum":  change("meta.pb 12 sha256:"+hexSum, "meta.pb 12 chunks"),
		"twice":             goodManifest("files/0 5 sha256:"+hexSum, "files/0 5 sha256:"+hexSum),
		"twice, different":  goodManifest("files/0 5 sha256:"+hexSum, "files/0 6 sha256:"+hexSum),
		"order":             goodManifest("files/9 5 sha256:"+hexSum, "files/10 5 sha256:"+hexSum),
		"size 05":           change("files/0 5", "files/0 05"),
		"negative size":     change("files/0 5", "files/0 -5"),
		"size too large":    change("files/0 5", "files/0 9223372036854775808"),
		"file name 00":      change("files/0 ", "files/00 "),
		"name with ..":      change("files/0 ", "files/../0 "),
		"unknown name":      change("files/0 ", "other "),
		"upper case":        change("sha256:"+hexSum, "sha256:"+strings.ToUpper(hexSum)),
		"short sum":         change("sha256:"+hexSum, "sha256:"+hexSum[2:]),
		"long sum":          change("sha256:"+hexSum, "sha256:"+hexSum+"00"),
		"odd sum":           change("sha256:"+hexSum, "sha256:"+hexSum[1:]),
		"no sum":            change(" sha256:"+hexSum, ""),
		"another word":      change("files/0 5 ", "files/0 5 x "),
		"two spaces":        change("files/0 5", "files/0  5"),
		"carriage return":   change("chunks\n", "chunks\r\n"),
		"empty line":        change("meta.pb", "\nmeta.pb"),
		"sum of other text": bytes.Replace(good, []byte("files/0 5"), []byte("files/0 6"), 1),
	} {
		if _, err := parseManifest(b); err == nil {
			t.Errorf("%s: accepted:\n%s", what, b)
		}
	}
}

func goodChunk(off uint64) *imagepb.Chunk {
	return &imagepb.Chunk{FileOffset: off, StoredLen: 5000, RawLen: 3 * align, Codec: imagepb.Chunk_S2, Pid: 1,
		Extents: []*imagepb.Extent{extent(0x1000, 2), extent(0x8000, 1)}}
}

func TestIndexCoversTheFile(t *testing.T) {
	const size = 5 * align // header, two chunks of two units
	encode := func(change func(a, b *imagepb.Chunk)) []byte {
		a, b := goodChunk(align), goodChunk(3*align)
		change(a, b)
		out, err := proto.Marshal(&imagepb.PageIndex{Chunks: []*imagepb.Chunk{a, b}})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if _, err := decodeIndex(encode(func(_, _ *imagepb.Chunk) {}), size); err != nil {
		t.Fatalf("a good index: %v", err)
	}
	if _, err := decodeIndex(nil, align); err != nil {
		t.Fatalf("an empty index: %v", err)
	}
	for what, change := range map[string]func(a, b *imagepb.Chunk){
		"over the header":  func(a, _ *imagepb.Chunk) { a.FileOffset = 0 },
		"gap":              func(_, b *imagepb.Chunk) { b.FileOffset += align },
		"overlap":          func(_, b *imagepb.Chunk) { b.FileOffset -= align },
		"not aligned":      func(_, b *imagepb.Chunk) { b.FileOffset++ },
		"far away":         func(_, b *imagepb.Chunk) { b.FileOffset = math.MaxUint64 - align + 1 },
		"order":            func(a, b *imagepb.Chunk) { a.FileOffset, b.FileOffset = b.FileOffset, a.FileOffset },
		"past the end":     func(_, b *imagepb.Chunk) { b.StoredLen = 2*align + 1 },
		"short of the end": func(_, b *imagepb.Chunk) { b.StoredLen = align },
		"nothing stored":   func(_, b *imagepb.Chunk) { b.StoredLen = 0 },
		"nothing in it":    func(_, b *imagepb.Chunk) { b.RawLen, b.Extents = 0, nil },
		"part of a page":   func(_, b *imagepb.Chunk) { b.RawLen-- },
		"too much in it":   func(_, b *imagepb.Chunk) { b.RawLen, b.Extents = ChunkSize+align, []*imagepb.Extent{extent(0, 257)} },
		"larger than before": func(_, b *imagepb.Chunk) {
			b.StoredLen, b.RawLen, b.Extents = 2*align, align, []*imagepb.Extent{extent(0, 1)}
		},
		"raw and shorter":    func(_, b *imagepb.Chunk) { b.Codec = imagepb.Chunk_RAW },
		"unknown codec":      func(_, b *imagepb.Chunk) { b.Codec = 3 },
		"codec below":        func(_, b *imagepb.Chunk) { b.Codec = -1 },
		"pid below":          func(_, b *imagepb.Chunk) { b.Pid = -1 },
		"extents missing":    func(_, b *imagepb.Chunk) { b.Extents = nil },
		"extents too many":   func(_, b *imagepb.Chunk) { b.Extents = append(b.Extents, extent(0, 1)) },
		"extent empty":       func(_, b *imagepb.Chunk) { b.Extents = append(b.Extents, extent(0, 0)) },
		"extent huge":        func(_, b *imagepb.Chunk) { b.Extents[0].Pages = math.MaxUint32 },
		"extent not aligned": func(_, b *imagepb.Chunk) { b.Extents[0].Addr++ },
		"extent wraps":       func(_, b *imagepb.Chunk) { b.Extents[0].Addr = math.MaxUint64 - align + 1 },
	} {
		if _, err := decodeIndex(encode(change), size); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := decodeIndex([]byte{0xff}, size); err == nil {
		t.Error("no protobuf at all: accepted")
	}
}

func TestHeader(t *testing.T) {
	h := header(Version)
	if err := checkHeader(h, Version); err != nil {
		t.Fatal(err)
	}
	if err := checkHeader(h[:align-1], Version); err == nil {
		t.Error("a short header was accepted")
	}
	if err := checkHeader(header(Version+1), Version); err == nil {
		t.Error("the header of another version was accepted")
	}
}

// TestChunkThatLies has good checksums everywhere, but content that is not what
// the index says: the work of a broken writer.
func TestChunkThatLies(t *testing.T) {
	raw := bytes.Repeat([]byte("abcd"), align)
	zstd, err := zstdEncoder(1)
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		kind   imagepb.Chunk_Codec
		stored []byte
		pad    byte
	}{
		"s2 longer":      {imagepb.Chunk_S2, s2.Encode(nil, raw), 0},
		"s2 shorter":     {imagepb.Chunk_S2, s2.Encode(nil, raw[:align]), 0},
		"s2 claims much": {imagepb.Chunk_S2, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, 0},
		"s2 nonsense":    {imagepb.Chunk_S2, []byte{0x80, 0x40, 0xff, 0xff}, 0},
		"zstd longer":    {imagepb.Chunk_ZSTD, zstd(nil, raw), 0},
		"zstd shorter":   {imagepb.Chunk_ZSTD, zstd(nil, raw[:align]), 0},
		"zstd nonsense":  {imagepb.Chunk_ZSTD, []byte("nonsense"), 0},
		"padding":        {imagepb.Chunk_S2, s2.Encode(nil, raw[:2*align]), 1},
	} {
		t.Run(what, func(t *testing.T) {
			dir := tempDir(t)
			forge(t, dir, tc.kind, tc.stored, tc.pad)
			checkVerify(t, dir, what)
		})
	}
	dir := tempDir(t)
	forge(t, dir, imagepb.Chunk_S2, s2.Encode(nil, raw[:2*align]), 0)
	if _, _, err := load(dir, nil); err != nil {
		t.Errorf("one that tells the truth: %v", err)
	}
}

// forge writes an image with one chunk of two pages that has the given bytes.
func forge(t *testing.T, dir string, kind imagepb.Chunk_Codec, stored []byte, pad byte) {
	t.Helper()
	block := make([]byte, padded(len(stored)))
	copy(block, stored)
	block[len(block)-1] |= pad
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.write(block, align); err != nil {
		t.Fatal(err)
	}
	w.next.Store(align + int64(len(block)))
	w.chunks = []*imagepb.Chunk{{FileOffset: align, StoredLen: uint32(len(stored)), RawLen: 2 * align, Codec: kind,
		Xxh3: xxh3.Hash(block), Pid: 1, Extents: []*imagepb.Extent{extent(0, 2)}}}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
}

func TestManifestTooLong(t *testing.T) {
	dir := tempDir(t)
	small(t).write(t, dir)
	if err := os.Truncate(filepath.Join(dir, manifestName), maxManifest+1); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	if d, ok := errors.AsType[*DamagedError](err); !ok || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v %v", d, err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(goodManifest())
	f.Add(goodManifest("files/0 5 sha256:" + hexSum))
	f.Add([]byte("esky-image 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			m, err := parseManifest(b)
			if err == nil && !bytes.Equal(m.encode(), b) {
				t.Errorf("not canonical: %q", b)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(header(Version))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkHeader(b, Version) == nil && !bytes.Equal(b, header(Version)) {
			t.Error("another header was accepted")
		}
	})
}

func FuzzIndex(f *testing.F) {
	good, err := proto.Marshal(&imagepb.PageIndex{Chunks: []*imagepb.Chunk{goodChunk(align), goodChunk(3 * align)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, int64(5*align))
	f.Add([]byte{}, int64(align))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		x, err := decodeIndex(b, size)
		if err != nil {
			return
		}
		sum := int64(align)
		for _, c := range x.Chunks {
			if c.RawLen > ChunkSize || padded(int(c.StoredLen)) > scratchSize || int64(c.FileOffset) != sum {
				t.Errorf("accepted %v", c)
			}
			sum += int64(padded(int(c.StoredLen)))
		}
		if sum != size {
			t.Errorf("covers %d of %d", sum, size)
		}
	})
}

func FuzzMeta(f *testing.F) {
	good, err := proto.Marshal(&imagepb.Image{Job: "j", Processes: []*imagepb.Process{{Pid: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMeta(b); (m == nil) == (err == nil) {
			t.Errorf("%v, %v", m, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	raw := bytes.Repeat([]byte("abcd"), align/4)
	zstd, err := zstdEncoder(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s2.Encode(nil, raw), uint32(align), int32(imagepb.Chunk_S2))
	f.Add(zstd(nil, raw), uint32(align), int32(imagepb.Chunk_ZSTD))
	f.Fuzz(func(t *testing.T, b []byte, n uint32, kind int32) {
		n = min(n, ChunkSize)
		guard := append(make([]byte, n), 0xa5) // after it nothing may be written
		dst := guard[:n:n]
		_ = decode(imagepb.Chunk_Codec(kind), dst, b) // whatever it says, no panic
		if guard[n] != 0xa5 {
			t.Error("wrote past the end")
		}
	})
}
