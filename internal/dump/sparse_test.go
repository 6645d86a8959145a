// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/pages"
)

func TestPresentInPieces(t *testing.T) {
	const page = pages.PageSize
	part := pages.Range{Start: 10 * page, End: 20 * page}
	there := []byte{1, 1, 0, 0x81, 3, 0x80, 0, 0, 2, 1} // only the lowest bit counts
	var asked []uint64
	c := caller{most: 4, mincore: func(addr, length uint64) ([]byte, error) {
		asked = append(asked, addr/page)
		i := addr/page - 100
		return there[i : i+length/page], nil
	}}
	got, err := c.present(100*page, part)
	if err != nil {
		t.Fatal(err)
	}
	want := []pages.Range{{Start: 10 * page, End: 12 * page}, {Start: 13 * page, End: 15 * page}, {Start: 19 * page, End: 20 * page}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]uint64{100, 104, 108}, asked); d != "" {
		t.Error(d)
	}
}

func TestCopyRanges(t *testing.T) {
	const page = pages.PageSize
	memory := make([]byte, 8*page)
	for i := range memory {
		memory[i] = byte(i/page + 1)
	}
	read, err := copyRanges([]pages.Range{{Start: page, End: 2 * page}, {Start: 4 * page, End: 7 * page}},
		func(b []byte, at uint64) error { copy(b, memory[at:]); return nil })
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(memory)
	clear(memory)
	for _, at := range []uint64{page, 4 * page, 6 * page} {
		b := make([]byte, page)
		if err := read(b, at); err != nil || !bytes.Equal(b, want[at:at+page]) {
			t.Errorf("at %#x: %v, begins with %d", at, err, b[0])
		}
	}
	if read(make([]byte, page), 0) == nil || read(make([]byte, 2*page), page) == nil {
		t.Error("it gives what was not copied")
	}
}

func TestDataOfAFile(t *testing.T) {
	const page, size = pages.PageSize, 1<<30 + 100
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{5 * page, 1 << 29, 1 << 30} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	got, err := data(f, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []uint64{5 * page, 1 << 29, 1 << 30} {
		if !covered(got, at) {
			t.Errorf("what is written at %#x is not in %v", at, got)
		}
	}
	if n := total(got); n > 1<<24 {
		t.Errorf("%d bytes are said to be there", n)
	}
}

func covered(all []pages.Range, at uint64) bool {
	for _, r := range all {
		if r.Start <= at && at < r.End {
			return true
		}
	}
	return false
}

func TestMessageTooLong(t *testing.T) {
	if err := messageTooLong("/q", longestMessage); err != nil {
		t.Error(err)
	}
	var refused *RefusedError
	if err := messageTooLong("/q", longestMessage+1); !errors.As(err, &refused) {
		t.Errorf("a message that does not fit: %v", err)
	}
}
