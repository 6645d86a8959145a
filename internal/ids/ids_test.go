// SPDX-License-Identifier: Apache-2.0

package ids

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	want := &Table{Init: 400, Monotonic: -3 * time.Second, Boottime: time.Hour, Pairs: []Pair{{10, 502}, {11, 500}, {500, 10}}}
	path := filepath.Join(t.TempDir(), "status.ids")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-written +read:\n%s", d)
	}
	for virtual, kernel := range map[int]int{1: 400, 10: 502, 500: 10, 77: 77} {
		if n := got.Real(virtual); n != kernel {
			t.Errorf("Real(%d) = %d, want %d", virtual, n, kernel)
		}
		if n := got.Virtual(kernel); n != virtual {
			t.Errorf("Virtual(%d) = %d, want %d", kernel, n, virtual)
		}
	}
	var none *Table
	if none.Real(5) != 5 || none.Virtual(5) != 5 {
		t.Error("without a table numbers are what they are")
	}
}

func TestDecodeBad(t *testing.T) {
	good, err := (&Table{Pairs: []Pair{{1, 2}}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, good[:len(good)-1], append([]byte{0}, good...)} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%d bytes are taken for a table", len(bad))
		}
	}
	if _, err := (&Table{Pairs: make([]Pair, Most+1)}).Encode(); err == nil {
		t.Error("more pairs than the library has room for")
	}
}
