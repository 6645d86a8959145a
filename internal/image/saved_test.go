// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// TestSavedHoles: what is zero is left out, wherever it stands, and is there
// when the file is read.
func TestSavedHoles(t *testing.T) {
	data, none := bytes.Repeat([]byte("x"), hole+5), make([]byte, 2*hole)
	for name, pieces := range map[string][][]byte{
		"at the end":                        {data, none},
		"at the end, and then nothing more": {data, none, nil},
		"in the middle":                     {data, none, data},
		"nothing else":                      {none, none, {}},
	} {
		dir := tempDir(t)
		w, err := Create(dir, Codec{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.CreateFile("1")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			if n, err := f.Write(p); n != len(p) || err != nil {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(&imagepb.Image{}); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := r.OpenFile("1")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(back); err != nil || !bytes.Equal(got, bytes.Join(pieces, nil)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		back.Close()
	}
}

// TestSavedNotDurable: what could not be made durable, which shows after Close, is
// no image.
func TestSavedNotDurable(t *testing.T) {
	dir := tempDir(t)
	w, err := Create(dir, Codec{})
	if err != nil {
		t.Fatal(err)
	}
	const last = 2 * syncsAtATime
	for i := range last + 1 {
		f, err := w.CreateFile(strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		if i == last {
			f.(*savedWriter).f.Close()
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(&imagepb.Image{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("finish: %v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("there is an image")
	}
}
