// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"golang.org/x/sys/unix"
)

func TestCreateWantsAnEmptyPrivateDirectory(t *testing.T) {
	for what, tc := range map[string]struct {
		prepare func(string) error
		unsafe  bool
	}{
		"missing":   {os.RemoveAll, false},
		"not empty": {func(d string) error { return os.WriteFile(d+"/x", nil, 0o600) }, false},
		"shared":    {func(d string) error { return os.Chmod(d, 0o777) }, true},
		"a file":    {func(d string) error { os.RemoveAll(d); return os.WriteFile(d, nil, 0o600) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			dir := tempDir(t)
			if err := tc.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Create(dir, Codec{})
			if err == nil {
				t.Fatal("it was accepted")
			}
			if _, ok := errors.AsType[*UnsafeError](err); ok != tc.unsafe {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAddChunkRefusesNonsense(t *testing.T) {
	w, err := Create(tempDir(t), Codec{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	page := pattern(t, "random", 1)
	big := make([]byte, ChunkSize+align)
	for what, try := range map[string]func() error{
		"no pages":            func() error { return w.AddChunk(1, 0, nil, nil) },
		"half a page":         func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, page[:100]) },
		"too many":            func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 257)}, big) },
		"extents too short":   func() error { return w.AddChunk(1, 0, nil, page) },
		"extents too long":    func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 2)}, page) },
		"extent of nothing":   func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1), extent(0, 0)}, page) },
		"extent not a page":   func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(1, 1)}, page) },
		"extent off the end":  func() error { return w.AddChunk(1, 0, []*imagepb.Extent{extent(1<<64-4096, 1), extent(0, 1)}, page) },
		"pid that is none":    func() error { return w.AddChunk(-1, 0, []*imagepb.Extent{extent(0, 1)}, page) },
		"extent that is none": func() error { return w.AddChunk(1, 0, []*imagepb.Extent{nil}, page) },
	} {
		if err := try(); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, page); err != nil {
		t.Errorf("a good chunk after all that: %v", err)
	}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Errorf("finish after all that: %v", err)
	}
}

// TestNoImageAfterAnError: once a write has failed, nothing can turn what is
// there into an image.
func TestNoImageAfterAnError(t *testing.T) {
	for what, fail := range map[string]func(*testing.T, *Writer){
		"chunk": func(t *testing.T, w *Writer) {
			w.pages.close()
			if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, pattern(t, "random", 1)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("write to a closed file: %v", err)
			}
		},
		"chunk, once": func(t *testing.T, w *Writer) {
			good := w.pages.direct
			w.pages.direct = fullFile{w.pages.buffered}
			page := pattern(t, "random", 1)
			if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, page); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("write to a full disk: %v", err)
			}
			w.pages.direct = good
			w.next.Store(align) // as if nothing had been tried
			if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, page); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("write after that: %v", err)
			}
		},
		"saved file": func(t *testing.T, w *Writer) {
			sf, err := w.CreateFile("0")
			if err != nil {
				t.Fatal(err)
			}
			sf.(*savedWriter).f.Close()
			if _, err := sf.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("write to a closed file: %v", err)
			}
			if err := sf.Close(); err == nil {
				t.Error("close after a failed write succeeds")
			}
		},
		"open saved file": func(t *testing.T, w *Writer) {
			sf, err := w.CreateFile("0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { sf.Close() })
		},
		"abort": func(_ *testing.T, w *Writer) { w.Abort(); w.Abort() },
	} {
		t.Run(what, func(t *testing.T) {
			dir := tempDir(t)
			w, err := Create(dir, Codec{})
			if err != nil {
				t.Fatal(err)
			}
			fail(t, w)
			if err := w.Finish(&imagepb.Image{}); err == nil {
				t.Error("it was finished")
			}
			if _, err := os.Lstat(filepath.Join(dir, manifestName)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a manifest: %v", err)
			}
			checkVerify(t, dir, what)
		})
	}
}

// fullFile is on a disk that is full.
type fullFile struct{ *os.File }

func (fullFile) WriteAt([]byte, int64) (int, error) { return 0, unix.ENOSPC }

// TestChunksEndInAnyOrder: the index is in the order of the file, whoever came
// first.
func TestChunksEndInAnyOrder(t *testing.T) {
	dir := tempDir(t)
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{}
	for i := range 3 {
		c := chunk{pid: 1, raw: pattern(t, "random", 1+i), extents: []*imagepb.Extent{extent(0, uint32(1+i))}}
		if err := w.AddChunk(c.pid, 0, c.extents, c.raw); err != nil {
			t.Fatal(err)
		}
		f.chunks = append(f.chunks, c)
	}
	slices.Reverse(w.chunks)
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	f.check(t, dir)
}

func TestFinishFailsWhole(t *testing.T) {
	for what, prepare := range map[string]func(string) (*imagepb.Image, error){
		"no metadata": func(string) (*imagepb.Image, error) { return nil, nil },
		"name taken":  func(d string) (*imagepb.Image, error) { return &imagepb.Image{}, os.Mkdir(d+"/"+metaName, 0o700) },
		"manifest written": func(d string) (*imagepb.Image, error) {
			return &imagepb.Image{}, os.WriteFile(d+"/manifest", nil, 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := tempDir(t)
			w, err := Create(dir, Codec{})
			if err != nil {
				t.Fatal(err)
			}
			meta, err := prepare(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Finish(meta); err == nil {
				t.Error("it was finished")
			}
			checkVerify(t, dir, what)
		})
	}
}

func TestAfterFinishNothingWorks(t *testing.T) {
	dir := tempDir(t)
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := w.AddChunk(1, 0, []*imagepb.Extent{extent(0, 1)}, pattern(t, "random", 1)); err == nil {
		t.Error("a chunk was added")
	}
	if _, err := w.CreateFile("0"); err == nil {
		t.Error("a file was added")
	}
	if err := w.Finish(&imagepb.Image{}); err == nil {
		t.Error("it was finished again")
	}
	w.Abort()
	fixture{}.check(t, dir)
}

func TestSavedFileNames(t *testing.T) {
	w, err := Create(tempDir(t), Codec{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, name := range []string{"", "a", "-1", "01", "+1", "1/2", "..", "1 ", "99999999999"} {
		if _, err := w.CreateFile(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
	saveFile(t, w, "4294967295", "x")
	if _, err := w.CreateFile("4294967295"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the same name again: %v", err)
	}
}

func TestLargeSavedFile(t *testing.T) {
	dir := tempDir(t)
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 300_000)
	sf, err := w.CreateFile("10")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sf, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sf.Close(), w.Finish(&imagepb.Image{})); err != nil {
		t.Fatal(err)
	}
	if err := sf.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rc, err := r.OpenFile("10")
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestBuffers(t *testing.T) {
	b := NewBuffer()
	if len(b) != ChunkSize || cap(b) != ChunkSize {
		t.Errorf("%d of %d bytes", len(b), cap(b))
	}
	FreeBuffer(b[:10])
	FreeBuffer(nil)
	FreeBuffer(make([]byte, ChunkSize)) // as when there are no mappings left
	p := newPool()
	x := p.get()
	p.put(x)
	if y := p.get(); &x[0] != &y[0] {
		t.Error("the pool does not keep buffers")
	}
}
