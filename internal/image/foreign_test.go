// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// writeForeign makes an image of two files of another provider.
func writeForeign(t *testing.T, dir string, checked bool) {
	t.Helper()
	w, err := CreateForeign(dir, checked)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	f, from := &imagepb.Foreign{Provider: "other", Version: "other 1"}, tempDir(t)
	for i, text := range []string{"what it", " wrote"} {
		path := filepath.Join(from, fmt.Sprint("file", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.Take(fmt.Sprint(i), path); err != nil {
			t.Fatal(err)
		}
		f.Files = append(f.Files, &imagepb.ForeignFile{Path: fmt.Sprint("file", i), Mode: 0o600, Number: uint32(i)})
	}
	if err := w.Finish(&imagepb.Image{Job: "J", Generation: 1, Foreign: f}); err != nil {
		t.Fatal(err)
	}
}

// TestForeign: who has checksums finds what has changed; who has none says so, and
// never that all is good.
func TestForeign(t *testing.T) {
	for _, checked := range []bool{false, true} {
		dir := tempDir(t)
		writeForeign(t, dir, checked)
		want := map[bool]error{true: ErrProviderChecks}[checked]
		look := func() (verified, read error) {
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if r.ProviderChecks() != checked || r.Meta().GetForeign().GetProvider() != "other" {
				t.Errorf("checked by its provider: %v, want %v", r.ProviderChecks(), checked)
			}
			f, err := r.OpenFile("0")
			if err == nil {
				f.Close()
			}
			return r.Verify(t.Context(), nil), err
		}
		if verified, read := look(); !errors.Is(verified, want) || !errors.Is(read, want) {
			t.Errorf("good: %v, %v, want %v", verified, read, want)
		}
		path := filepath.Join(dir, "files", "1")
		if err := os.WriteFile(path, []byte(" wrOte"), 0o600); err != nil {
			t.Fatal(err)
		}
		verified, _ := look()
		if _, damaged := errors.AsType[*DamagedError](verified); damaged == checked || checked && !errors.Is(verified, want) {
			t.Errorf("a byte has changed: %v", verified)
		}
		if err := os.Truncate(path, 3); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Error("a file that was cut off is not noticed")
		}
	}
}

// TestGoldenForeign reads images of providers that earlier versions of this program
// wrote.
func TestGoldenForeign(t *testing.T) {
	for version, checked := range map[uint32]bool{ForeignVersion: false, CheckedVersion: true} {
		golden := fmt.Sprintf("testdata/v%d/foreign/image", version)
		if *writeGolden {
			if err := os.Mkdir(filepath.Dir(filepath.Dir(golden)), 0o755); err != nil {
				t.Fatal(err) // it exists: never written again
			}
			dir := tempDir(t)
			writeForeign(t, dir, checked)
			if err := os.CopyFS(golden, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(tempDir(t), "image")
		copyImage(t, golden, dir)
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Verify(t.Context(), nil); checked != errors.Is(err, ErrProviderChecks) || !checked && err != nil {
			t.Error(err)
		}
		files := r.Meta().GetForeign().GetFiles()
		if len(files) != 2 || files[1].Path != "file1" || files[1].Number != 1 {
			t.Errorf("version %d: %v", version, files)
		}
	}
}

// TestForeignNeedsProvider: nothing but the image of a provider can do without
// checksums.
func TestForeignNeedsProvider(t *testing.T) {
	dir := tempDir(t)
	w, err := CreateForeign(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(&imagepb.Image{Job: "J"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("an image without checksums is not that of a provider, and was opened")
	}
}
