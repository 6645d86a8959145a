// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// tempDir is a directory as the store makes it, in memory where there is
// /dev/shm: damaging every byte of an image is many small writes.
func tempDir(t testing.TB) string {
	t.Helper()
	base := ""
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		base = "/dev/shm"
	}
	dir, err := os.MkdirTemp(base, "esky-image")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// chunk is what a test stores and expects to get back.
type chunk struct {
	pid     int32
	object  uint32
	extents []*imagepb.Extent
	raw     []byte
}

func extent(addr uint64, pages uint32) *imagepb.Extent {
	return &imagepb.Extent{Addr: addr, Pages: pages}
}

// pattern fills a buffer in one of several ways. The result is page aligned.
func pattern(t testing.TB, kind string, pages int) []byte {
	t.Helper()
	b := NewBuffer()
	t.Cleanup(func() { FreeBuffer(b) })
	r := rand.New(rand.NewPCG(1, uint64(pages)))
	b = b[:pages*align]
	for i := range b {
		switch kind {
		case "random":
			b[i] = byte(r.Uint32())
		case "words":
			b[i] = "checkpoint and go on. "[i%22]
		case "half": // does not compress as a whole, in parts it does
			if i%align < align/2 {
				b[i] = byte(r.Uint32())
			}
		}
	}
	return b
}

type fixture struct {
	codec  Codec
	chunks []chunk
	shared []*imagepb.Shared
	files  []string
	meta   *imagepb.Image
}

// small is an image with one of everything: a chunk stored as it is, one that
// is encoded and padded, and saved files, one of them empty.
func small(t testing.TB) fixture {
	return fixture{
		codec: Codec{Kind: imagepb.Chunk_S2},
		chunks: []chunk{
			{pid: 7, extents: []*imagepb.Extent{extent(0x400000, 1)}, raw: pattern(t, "random", 1)},
			{object: 1, extents: []*imagepb.Extent{extent(0, 1), extent(0x5000, 2)}, raw: pattern(t, "words", 3)},
		},
		shared: []*imagepb.Shared{{Pid: 8, From: 7, Extents: []*imagepb.Extent{extent(0x400000, 1)}}},
		files:  []string{"a saved file\n", "", "b saved file\n"},
		meta: &imagepb.Image{Job: "slurm-12", Generation: 3, CreatedUnixNs: 1700000000e9,
			Command: []string{"./prog", "with args"}, Processes: []*imagepb.Process{{Pid: 7, Comm: "prog"}}},
	}
}

func (f fixture) write(t testing.TB, dir string) {
	t.Helper()
	w, err := Create(dir, f.codec)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, c := range f.chunks {
		if err := w.AddChunk(c.pid, c.object, c.extents, c.raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range f.shared {
		w.Share(s.Pid, s.From, s.Extents)
	}
	for i, text := range f.files {
		saveFile(t, w, strconv.Itoa(i), text)
	}
	if err := w.Finish(f.meta); err != nil {
		t.Fatal(err)
	}
}

func saveFile(t testing.TB, w *Writer, name, text string) {
	t.Helper()
	sf, err := w.CreateFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sf, text); err != nil {
		t.Fatal(err)
	}
	if err := sf.Close(); err != nil {
		t.Fatal(err)
	}
}

// load reads all of an image, as a resume does.
func load(dir string, buf []byte) (chunks [][]byte, files []string, err error) {
	r, err := Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	for i := range r.Index().Chunks {
		b, err := r.ReadChunk(i, buf)
		if err != nil {
			return nil, nil, err
		}
		chunks = append(chunks, bytes.Clone(b))
	}
	for _, name := range r.man.names() {
		if filepath.Dir(name) != filesDir {
			continue
		}
		f, err := r.OpenFile(filepath.Base(name))
		if err != nil {
			return nil, nil, err
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return nil, nil, err
		}
		files = append(files, string(b))
	}
	return chunks, files, nil
}

func (f fixture) check(t *testing.T, dir string) {
	t.Helper()
	buf := NewBuffer()
	defer FreeBuffer(buf)
	chunks, files, err := load(dir, buf)
	if err != nil {
		t.Fatal(err)
	}
	if len(chunks) != len(f.chunks) {
		t.Fatalf("%d chunks, want %d", len(chunks), len(f.chunks))
	}
	for i := range chunks {
		if !bytes.Equal(chunks[i], f.chunks[i].raw) {
			t.Errorf("chunk %d differs", i)
		}
	}
	if fmt.Sprintf("%q", files) != fmt.Sprintf("%q", f.files) {
		t.Errorf("saved files %q, want %q", files, f.files)
	}
}

// regular lists the files of an image, relative to its directory.
func regular(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
