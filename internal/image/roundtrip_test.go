// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"
)

var codecs = []string{"none", "s2", "zstd", "zstd:1", "zstd:22"}

func mustCodec(t testing.TB, s string) Codec {
	t.Helper()
	c, err := ParseCodec(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRoundTrip stores chunks of the sizes around every boundary, one after the
// other in one image, so that each starts where another of odd length ended.
func TestRoundTrip(t *testing.T) {
	for _, codec := range codecs {
		for _, kind := range []string{"zero", "random", "words", "half"} {
			t.Run(codec+"/"+kind, func(t *testing.T) {
				f := fixture{codec: mustCodec(t, codec), meta: &imagepb.Image{Job: "j"}}
				for _, pages := range []int{1, 2, 3, 15, 16, 17, 127, 128, 255, 256} {
					f.chunks = append(f.chunks, chunk{pid: 1, raw: pattern(t, kind, pages),
						extents: []*imagepb.Extent{extent(0x10000, uint32(pages))}})
				}
				dir := tempDir(t)
				f.write(t, dir)
				f.check(t, dir)
			})
		}
	}
}

func TestEncodingPaysOrIsLeftOut(t *testing.T) {
	for _, tc := range []struct {
		codec, kind string
		want        imagepb.Chunk_Codec
	}{
		{"none", "words", imagepb.Chunk_RAW}, {"s2", "words", imagepb.Chunk_S2},
		{"zstd", "words", imagepb.Chunk_ZSTD}, {"s2", "random", imagepb.Chunk_RAW},
		{"zstd", "random", imagepb.Chunk_RAW}, {"zstd", "half", imagepb.Chunk_ZSTD},
	} {
		dir := tempDir(t)
		fixture{codec: mustCodec(t, tc.codec), meta: &imagepb.Image{}, chunks: []chunk{{pid: 1,
			raw: pattern(t, tc.kind, 64), extents: []*imagepb.Extent{extent(0, 64)}}}}.write(t, dir)
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		c := r.Index().Chunks[0]
		r.Close()
		if c.Codec != tc.want {
			t.Errorf("%s of %s is stored as %v, want %v", tc.codec, tc.kind, c.Codec, tc.want)
		}
		if encoded := c.Codec != imagepb.Chunk_RAW; encoded != (padded(int(c.StoredLen)) < int(c.RawLen)) {
			t.Errorf("%s of %s: %d bytes of %d", tc.codec, tc.kind, c.StoredLen, c.RawLen)
		}
	}
}

func TestMetaAndIndex(t *testing.T) {
	f := small(t)
	dir := tempDir(t)
	f.write(t, dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if d := cmp.Diff(f.meta, r.Meta(), protocmp.Transform()); d != "" {
		t.Error(d)
	}
	for i, c := range r.Index().Chunks {
		want := f.chunks[i]
		if c.Pid != want.pid || c.Object != want.object {
			t.Errorf("chunk %d belongs to %d/%d, want %d/%d", i, c.Pid, c.Object, want.pid, want.object)
		}
		if d := cmp.Diff(want.extents, c.Extents, protocmp.Transform()); d != "" {
			t.Errorf("chunk %d: %s", i, d)
		}
	}
}

func TestWrittenCountsAllButTheManifest(t *testing.T) {
	dir := tempDir(t)
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 2)}, pattern(t, "random", 2)); err != nil {
		t.Fatal(err)
	}
	if got := w.Written(); got != 3*align {
		t.Errorf("written %d, want %d", got, 3*align)
	}
	saveFile(t, w, "0", "12345")
	if got := w.Written(); got != 3*align+5 {
		t.Errorf("written %d, want %d", got, 3*align+5)
	}
	if err := w.Finish(&imagepb.Image{Job: "j"}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fi, err := os.Stat(filepath.Join(dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.Written(), r.Size()+fi.Size(); got != want {
		t.Errorf("written %d, the files have %d", got, want)
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	const writers, each = 4, 24
	dir := tempDir(t)
	w, err := Create(dir, mustCodec(t, "s2"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			buf := NewBuffer()
			defer FreeBuffer(buf)
			for i := range each {
				raw := buf[:(1+i)*align]
				fill(raw, g, i)
				if err := w.AddChunk(int32(1+g), 0, []*imagepb.Extent{extent(uint64(i)<<20, uint32(1+i))}, raw); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { saveFile(t, w, strconv.Itoa(g), fmt.Sprint("file ", g)) })
	}
	wg.Wait()
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n := len(r.Index().Chunks); n != writers*each {
		t.Fatalf("%d chunks, want %d", n, writers*each)
	}
	for g := range writers {
		wg.Go(func() {
			buf, want := NewBuffer(), make([]byte, ChunkSize)
			defer FreeBuffer(buf)
			for i := g; i < writers*each; i += writers {
				c := r.Index().Chunks[i]
				b, err := r.ReadChunk(i, buf)
				fill(want[:c.RawLen], int(c.Pid)-1, int(c.Extents[0].Addr>>20))
				if err != nil || !bytes.Equal(b, want[:c.RawLen]) {
					t.Errorf("chunk %d: wrong, or %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// fill makes bytes that belong to one chunk only; every other page compresses.
func fill(b []byte, g, i int) {
	x := uint32(g*1000 + i + 1)
	for k := range b {
		if k/align%2 == 0 {
			x = x*1664525 + 1013904223
		}
		b[k] = byte(x >> 24)
	}
}

// TestWithoutDirect covers the file systems and buffers that O_DIRECT refuses.
func TestWithoutDirect(t *testing.T) {
	f := small(t)
	for name, cripple := range map[string]func(*pageFile){
		"no O_DIRECT": func(p *pageFile) {
			if p.direct != nil {
				p.direct.Close()
			}
			p.direct = nil
		},
		"refused later": func(p *pageFile) { p.direct = refusing{p.buffered} },
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			w, err := Create(dir, f.codec)
			if err != nil {
				t.Fatal(err)
			}
			cripple(w.pages)
			for _, c := range f.chunks {
				if err := w.AddChunk(c.pid, c.object, c.extents, c.raw); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Finish(f.meta); err != nil {
				t.Fatal(err)
			}
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cripple(r.pages)
			for i, c := range f.chunks {
				if b, err := r.ReadChunk(i, nil); err != nil || !bytes.Equal(b, c.raw) {
					t.Errorf("chunk %d: wrong, or %v", i, err)
				}
			}
		})
	}
}

// refusing takes half of what it is asked for, and then refuses the rest.
type refusing struct{ f *os.File }

func (r refusing) ReadAt(b []byte, off int64) (int, error) {
	n, _ := r.f.ReadAt(b[:len(b)/2], off)
	return n, fmt.Errorf("read: %w", unix.EINVAL)
}

func (r refusing) WriteAt(b []byte, off int64) (int, error) {
	n, _ := r.f.WriteAt(b[:len(b)/2], off)
	return n, fmt.Errorf("write: %w", unix.EINVAL)
}

func (r refusing) Close() error { return nil }

func TestUnalignedBuffers(t *testing.T) {
	dir := t.TempDir() // a real disk, where there is one
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	whole := pattern(t, "random", 4)
	raw := whole[1 : 1+2*align]
	if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 2)}, raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := r.ReadChunk(0, make([]byte, 3*align)[3:]); err != nil || !bytes.Equal(b, raw) {
		t.Errorf("wrong, or %v", err)
	}
}

func TestVerifyProgress(t *testing.T) {
	f := small(t)
	dir := tempDir(t)
	f.write(t, dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var last, total int64
	calls := 0
	err = r.Verify(context.Background(), func(d, n int64) {
		if calls++; d < last || d > n {
			t.Errorf("progress %d after %d of %d", d, last, n)
		}
		last, total = d, n
	})
	want := int64(2*align + len(f.files[0]) + len(f.files[2]))
	if err != nil || last != total || total != want {
		t.Errorf("done %d of %d, want %d: %v", last, total, want, err)
	}
	if err := r.Verify(context.Background(), nil); err != nil {
		t.Errorf("without progress: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestReadersRefuseWhatIsNotThere(t *testing.T) {
	f := small(t)
	dir := tempDir(t)
	f.write(t, dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, i := range []int{-1, 2, 1 << 40} {
		if _, err := r.ReadChunk(i, nil); err == nil {
			t.Errorf("chunk %d was read", i)
		}
	}
	for _, name := range []string{"3", "", "../meta.pb", "00", "0/"} {
		if _, err := r.OpenFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("saved file %q: %v", name, err)
		}
	}
	sf, err := r.OpenFile("0")
	if err != nil {
		t.Fatal(err)
	}
	defer sf.Close()
	b := make([]byte, 1)
	if _, err := io.ReadFull(sf, b); err != nil || b[0] != 'a' {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestParseCodec(t *testing.T) {
	for _, tc := range []struct {
		in, out string
	}{
		{"none", "none"}, {"s2", "s2"}, {"zstd", "zstd:3"}, {"zstd:1", "zstd:1"}, {"zstd:22", "zstd:22"},
		{"", ""}, {"zstd:", ""}, {"zstd:0", ""}, {"zstd:23", ""}, {"zstd:x", ""}, {"S2", ""}, {"gzip", ""}, {"none ", ""},
	} {
		c, err := ParseCodec(tc.in)
		if (err == nil) != (tc.out != "") || (err == nil && c.String() != tc.out) {
			t.Errorf("%q: %v, %v; want %q", tc.in, c, err, tc.out)
		}
	}
	if _, err := Create(tempDir(t), Codec{Kind: 9}); err == nil {
		t.Error("an unknown codec was accepted")
	}
}
