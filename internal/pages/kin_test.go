// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// TestStoreShared stores three sources that have the same addresses: a second
// that is as the first but for some pages, and a third that is as the second.
func TestStoreShared(t *testing.T) {
	const pages, base = 1000, 1 << 30
	random := rand.New(rand.NewPCG(3, 4))
	first := make([]byte, pages*PageSize)
	for i := range first {
		first[i] = byte(random.Uint32())
	}
	clear(first[10*PageSize : 12*PageSize])
	second := append([]byte(nil), first...)
	second[100*PageSize] ^= 1
	second[301*PageSize-1] ^= 1
	clear(second[500*PageSize : 510*PageSize])
	third := append([]byte(nil), second...)
	source := func(pid int32, b []byte, from, to uint64) Source {
		return Source{Pid: pid, Ranges: []Range{{base + from*PageSize, base + to*PageSize}}, ReadAt: func(out []byte, at uint64) error {
			copy(out, b[at-base:])
			return nil
		}}
	}
	sources := []Source{source(1, first, 0, 900), source(2, second, 0, pages), source(3, third, 50, pages)}
	bytes, done := Bytes(sources), make(chan int, pages)
	r := stored(t, sources, func(n int) { done <- n })
	close(done)
	for n := range done {
		bytes -= int64(n)
	}
	if bytes != 0 {
		t.Errorf("%d bytes were not reported", bytes)
	}
	got := map[[2]int32][][2]uint64{}
	for _, s := range r.Index().Shared {
		key := [2]int32{s.Pid, s.From}
		got[key] = append(got[key], in(base, FromExtents(s.Extents))...)
	}
	want := map[[2]int32][][2]uint64{
		{2, 1}: {{0, 10}, {12, 100}, {101, 300}, {301, 500}, {510, 900}},
		{3, 1}: {{50, 100}, {101, 300}, {301, 500}, {510, 900}},
		{3, 2}: {{100, 101}, {300, 301}, {900, 1000}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	all := map[int32]uint64{}
	for _, c := range r.Index().Chunks {
		all[c.Pid] += uint64(c.RawLen) / PageSize
	}
	if d := cmp.Diff(map[int32]uint64{1: 898, 2: 102}, all); d != "" {
		t.Errorf("pages stored: %s", d)
	}
}

func stored(t *testing.T, sources []Source, tick func(int)) *image.Reader {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := image.Create(dir, image.Codec{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := Store(context.Background(), w, sources, tick); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(&imagepb.Image{}); err != nil {
		t.Fatal(err)
	}
	r, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
