// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// memory is n fresh pages of this process.
func memory(t *testing.T, n, prot, flags int) ([]byte, uint64) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*PageSize, prot, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b, address(b)
}

// in gives ranges as page numbers from a base.
func in(base uint64, ranges []Range) (out [][2]uint64) {
	for _, r := range ranges {
		out = append(out, [2]uint64{(r.Start - base) / PageSize, (r.End - base) / PageSize})
	}
	return out
}

func TestScan(t *testing.T) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	b, base := memory(t, 16, unix.PROT_READ|unix.PROT_WRITE, 0)
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	for _, page := range []int{1, 2, 3, 7, 15} {
		b[page*PageSize+100] = 1
	}
	sink = b[10*PageSize] // the shared page of zeros
	want := [][2]uint64{{1, 4}, {7, 8}, {15, 16}}
	got, err := Scan(pagemap, base, base+16*PageSize)
	if diff := cmp.Diff(want, in(base, got)); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	// The way of older kernels does not know the page of zeros.
	got, err = scanEntries(pagemap, base, base+16*PageSize)
	want = [][2]uint64{{1, 4}, {7, 8}, {10, 11}, {15, 16}}
	if diff := cmp.Diff(want, in(base, got)); diff != "" || err != nil {
		t.Errorf("entries: %v %s", err, diff)
	}
	part, err := Scan(pagemap, base+2*PageSize, base+8*PageSize)
	if diff := cmp.Diff([][2]uint64{{2, 4}, {7, 8}}, in(base, part)); diff != "" || err != nil {
		t.Errorf("a part: %v %s", err, diff)
	}
}

var sink byte

// TestScanMany has more ranges than are told at a time.
func TestScanMany(t *testing.T) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	const pages = 3*regionsACall + 10
	b, base := memory(t, pages, unix.PROT_READ|unix.PROT_WRITE, 0)
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	var want [][2]uint64
	for page := uint64(0); page < pages; page += 2 {
		b[page*PageSize] = 1
		want = append(want, [2]uint64{page, page + 1})
	}
	for name, scan := range map[string]func(*os.File, uint64, uint64) ([]Range, error){"Scan": Scan, "scanEntries": scanEntries} {
		got, err := scan(pagemap, base, base+pages*PageSize)
		if diff := cmp.Diff(want, in(base, got)); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

// TestScanDeep scans at every depth of a stack, some of which make it grow, and
// so move, between the moment at which the kernel is told where to write and that
// at which it does.
func TestScanDeep(t *testing.T) {
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	b, base := memory(t, 3, unix.PROT_READ|unix.PROT_WRITE, 0)
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	b[PageSize] = 1
	want := [][2]uint64{{1, 2}}
	for depth := range 1500 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err := scanAt(depth, pagemap, base, base+3*PageSize)
			if diff := cmp.Diff(want, in(base, got)); diff != "" || err != nil {
				t.Errorf("depth %d: %v %s", depth, err, diff)
			}
		}()
		<-done
	}
}

//go:noinline
func scanAt(depth int, pagemap *os.File, start, end uint64) ([]Range, error) {
	if depth > 0 {
		return scanAt(depth-1, pagemap, start, end)
	}
	return Scan(pagemap, start, end)
}

// page is a page full of a byte, or of zeros but for the last one.
func page(v byte) []byte { return bytes.Repeat([]byte{v}, PageSize) }

func TestDropZeros(t *testing.T) {
	last := make([]byte, PageSize)
	last[PageSize-1] = 1
	type extent struct{ Addr, Pages uint64 }
	for name, c := range map[string]struct {
		ranges []Range
		raw    [][]byte
		want   []extent
		kept   [][]byte
	}{
		"nothing":      {nil, nil, nil, nil},
		"all zeros":    {[]Range{{0x1000, 0x3000}}, [][]byte{page(0), page(0)}, nil, nil},
		"none":         {[]Range{{0x1000, 0x3000}}, [][]byte{page(1), page(2)}, []extent{{0x1000, 2}}, [][]byte{page(1), page(2)}},
		"the first":    {[]Range{{0x1000, 0x3000}}, [][]byte{page(0), page(2)}, []extent{{0x2000, 1}}, [][]byte{page(2)}},
		"in between":   {[]Range{{0x1000, 0x4000}}, [][]byte{page(1), page(0), page(3)}, []extent{{0x1000, 1}, {0x3000, 1}}, [][]byte{page(1), page(3)}},
		"a last byte":  {[]Range{{0x1000, 0x2000}}, [][]byte{last}, []extent{{0x1000, 1}}, [][]byte{last}},
		"two ranges":   {[]Range{{0x1000, 0x2000}, {0x8000, 0x9000}}, [][]byte{page(1), page(2)}, []extent{{0x1000, 1}, {0x8000, 1}}, [][]byte{page(1), page(2)}},
		"one and half": {[]Range{{0x1000, 0x2000}, {0x8000, 0xa000}}, [][]byte{page(0), page(0), page(2)}, []extent{{0x9000, 1}}, [][]byte{page(2)}},
	} {
		extents, raw := dropZeros(c.ranges, bytes.Join(c.raw, nil))
		var got []extent
		for _, e := range extents {
			got = append(got, extent{e.Addr, uint64(e.Pages)})
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if !bytes.Equal(raw, bytes.Join(c.kept, nil)) {
			t.Errorf("%s: other pages were kept", name)
		}
	}
}

func TestCut(t *testing.T) {
	const chunk = image.ChunkSize
	for name, c := range map[string]struct {
		ranges []Range
		want   []string
	}{
		"nothing":         {nil, nil},
		"a page":          {[]Range{{0, PageSize}}, []string{"[{0 4096}]"}},
		"exactly a chunk": {[]Range{{0, chunk}}, []string{"[{0 1048576}]"}},
		"a page more":     {[]Range{{0, chunk + PageSize}}, []string{"[{0 1048576}]", "[{1048576 1052672}]"}},
		"many in one":     {[]Range{{0, 4096}, {8192, 12288}}, []string{"[{0 4096} {8192 12288}]"}},
		"over the edge":   {[]Range{{0, chunk - PageSize}, {2 * chunk, 2*chunk + 2*PageSize}}, []string{"[{0 1044480} {2097152 2101248}]", "[{2101248 2105344}]"}},
	} {
		out := make(chan piece, 10)
		if err := cut(context.Background(), &task{Source: &Source{Ranges: c.ranges}}, out); err != nil {
			t.Fatal(err)
		}
		close(out)
		var got []string
		for p := range out {
			n := 0
			for _, r := range p.ranges {
				n += int(r.Len())
			}
			if n != p.bytes {
				t.Errorf("%s: a piece of %d bytes says %d", name, n, p.bytes)
			}
			got = append(got, fmt.Sprint(p.ranges))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestCutCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := cut(ctx, &task{Source: &Source{Ranges: []Range{{0, 10 * image.ChunkSize}}}}, make(chan piece))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStoreAndLoad moves memory of this process through an image.
func TestStoreAndLoad(t *testing.T) {
	const pages = 700 // some chunks
	from, base := memory(t, pages, unix.PROT_READ|unix.PROT_WRITE, 0)
	for i := range pages {
		if i%3 != 0 {
			copy(from[i*PageSize:], page(byte(i)))
		}
	}
	mem, err := OpenMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := image.Create(dir, image.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	done := 0
	sources := []Source{{Pid: 7, Ranges: []Range{{base, base + pages*PageSize}}, ReadAt: mem.ReadAt}}
	counted := make(chan int, pages)
	if err := Store(context.Background(), w, sources, func(n int) { counted <- n }); err != nil {
		t.Fatal(err)
	}
	close(counted)
	for n := range counted {
		done += n
	}
	if int64(done) != Bytes(sources) {
		t.Errorf("%d of %d bytes were reported", done, Bytes(sources))
	}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	to, at := memory(t, pages, unix.PROT_READ, 0) // a debugger may write even there
	sinkOf := func(c *imagepb.Chunk) Sink {
		if c.Pid != 7 {
			t.Errorf("a chunk of pid %d", c.Pid)
		}
		return func(b []byte, addr uint64) error { return mem.WriteAt(b, addr-base+at) }
	}
	if err := Load(context.Background(), r, all(r), sinkOf, func(int) {}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(from, to) {
		t.Error("other memory came back")
	}
	if err := Load(context.Background(), r, all(r), func(*imagepb.Chunk) Sink { return nil }, func(int) {}); err == nil {
		t.Error("chunks that belong to nobody were loaded")
	}
}

func TestStoreUnreadable(t *testing.T) {
	w, err := image.Create(t.TempDir(), image.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	mem, err := OpenMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	sources := []Source{{Ranges: []Range{{PageSize, 20 * image.ChunkSize}}, ReadAt: mem.ReadAt}}
	if err := Store(context.Background(), w, sources, func(int) {}); !errors.Is(err, ErrUnreadable) {
		t.Errorf("error %v, not %v", err, ErrUnreadable)
	}
}

// all are the chunks of an image.
func all(r *image.Reader) []int {
	which := make([]int, len(r.Index().Chunks))
	for i := range which {
		which[i] = i
	}
	return which
}
