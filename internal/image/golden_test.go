// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/google/go-cmp/cmp"
)

var writeGolden = flag.Bool("write-golden", false, "write the golden images of this format version; once for each version, never again")

// content is what an image says, in a form that outlives the code.
type content struct {
	Job        string
	Generation uint32
	Chunks     []contentChunk
	Shared     []string `json:",omitempty"` // since version 2
	Files      []string // SHA-256
}

type contentChunk struct {
	Pid     int32
	Object  uint32
	Codec   string
	Extents []string
	SHA256  string // of the pages
}

func contentOf(r *Reader) (content, error) {
	c := content{Job: r.Meta().Job, Generation: r.Meta().Generation}
	for i, x := range r.Index().Chunks {
		raw, err := r.ReadChunk(i, nil)
		if err != nil {
			return c, err
		}
		cc := contentChunk{Pid: x.Pid, Object: x.Object, Codec: x.Codec.String(), SHA256: fmt.Sprintf("%x", sha256.Sum256(raw))}
		for _, e := range x.Extents {
			cc.Extents = append(cc.Extents, fmt.Sprintf("%#x+%d", e.Addr, e.Pages))
		}
		c.Chunks = append(c.Chunks, cc)
	}
	for _, s := range r.Index().Shared {
		for _, e := range s.Extents {
			c.Shared = append(c.Shared, fmt.Sprintf("%d from %d: %#x+%d", s.Pid, s.From, e.Addr, e.Pages))
		}
	}
	for i := 0; ; i++ {
		f, err := r.OpenFile(fmt.Sprint(i))
		if errors.Is(err, os.ErrNotExist) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			return c, err
		}
		c.Files = append(c.Files, fmt.Sprintf("%x", sha256.Sum256(b)))
	}
}

// TestGoldenImages reads images that earlier versions of this program wrote,
// with every codec of every format version.
func TestGoldenImages(t *testing.T) {
	if *writeGolden {
		makeGolden(t)
	}
	for v := uint32(1); v <= Version; v++ {
		dirs, err := filepath.Glob(fmt.Sprintf("testdata/v%d/*/expect.json", v))
		if err != nil || len(dirs) < 3 {
			t.Errorf("format version %d has %d golden images: %v", v, len(dirs), err)
		}
		for _, expect := range dirs {
			t.Run(strings.TrimPrefix(filepath.Dir(expect), "testdata/"), func(t *testing.T) { checkGolden(t, expect) })
		}
	}
}

func checkGolden(t *testing.T, expect string) {
	b, err := os.ReadFile(expect)
	if err != nil {
		t.Fatal(err)
	}
	var want content
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(tempDir(t), "image")
	copyImage(t, filepath.Join(filepath.Dir(expect), "image"), dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	got, err := contentOf(r)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

func makeGolden(t *testing.T) {
	for name, codec := range map[string]string{"none": "none", "s2": "s2", "zstd": "zstd"} {
		root := fmt.Sprintf("testdata/v%d/%s", Version, name)
		dir := root + "/image"
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err) // it exists: never written again
		}
		f := small(t)
		f.codec = mustCodec(t, codec)
		if name == "none" {
			f.files = nil // an image without the directory of saved files
		}
		f.meta.Attempt, f.meta.Cwd = 1, "/home/user"
		f.meta.Host = &imagepb.Host{Arch: "amd64", PageSize: align}
		f.write(t, dir)
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := contentOf(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/expect.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
