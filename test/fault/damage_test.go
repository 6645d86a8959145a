// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// A harm is something that happens to an image.
type harm struct {
	name    string
	verdict string // what esky must call it
	do      func(t *testing.T, image string)
}

// harms are what can happen to the image in dir: bytes flipped in every file
// of it, at its ends and at random places, and files cut, lengthened, removed,
// added and opened to others.
func harms(t *testing.T, rng *rand.Rand, dir string) []harm {
	t.Helper()
	all := []harm{
		{"a file added", "damaged", func(t *testing.T, image string) { write(t, filepath.Join(image, "more"), []byte("x")) }},
		{"writable by others", "not safe", func(t *testing.T, image string) { must(t, os.Chmod(image, 0o777)) }},
	}
	for name, size := range files(t, dir) {
		all = append(all, fileHarms(name, size)...)
		for _, at := range places(rng, size) {
			all = append(all, harm{fmt.Sprintf("%s: byte %d of %d flipped", name, at, size), "damaged",
				func(t *testing.T, image string) { flip(t, filepath.Join(image, name), at) }})
		}
	}
	return all
}

func fileHarms(name string, size int64) []harm {
	return []harm{
		{name + ": removed", "damaged", func(t *testing.T, image string) { must(t, os.Remove(filepath.Join(image, name))) }},
		{name + ": cut", "damaged", func(t *testing.T, image string) { must(t, os.Truncate(filepath.Join(image, name), size/2)) }},
		{name + ": lengthened", "damaged", func(t *testing.T, image string) { must(t, os.Truncate(filepath.Join(image, name), size+4096)) }},
	}
}

// places are offsets in a file: its ends and three in between.
func places(rng *rand.Rand, size int64) []int64 {
	if size == 0 {
		return nil
	}
	at := []int64{0, size - 1}
	for range 3 {
		at = append(at, rng.Int63n(size))
	}
	return at
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	must(t, err)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
	harness.Give(t, path)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files are the files below dir with their sizes.
func files(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		found[name] = info.Size()
		return err
	}))
	return found
}

// sum is a digest of all files below the directories.
func sum(t *testing.T, dirs []string) string {
	t.Helper()
	h := sha256.New()
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(h, "%s %d\n", path, len(data))
			h.Write(data)
			return err
		}))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// twoImages runs a job until it has two images, the first of its first step
// and the second of its second, and lets its host crash.
func twoImages(t *testing.T) *gate {
	t.Helper()
	g := newGate(t, 1)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	g.advance(r)
	g.Checkpoint()
	r.Crash()
	g.shut()
	if n := len(g.Generations()); n != 2 {
		t.Fatalf("%d images after two checkpoints", n)
	}
	return g
}

// TestDamagedImage harms the newest image in all ways, one at a time. The job
// must come back from the image before, and esky must say so.
func TestDamagedImage(t *testing.T) {
	g := twoImages(t)
	pristine, stdout := g.Path("pristine"), g.Read("stdout")
	newest := filepath.Base(g.Generations()[1])
	g.copyTree(g.Store, pristine)
	g.Write("finish", "")
	want := g.undisturbed(1)
	list := harms(t, harness.Rand(t), filepath.Join(pristine, g.Name, newest))
	for _, h := range list {
		g.copyTree(pristine, g.Store)
		must(t, os.WriteFile(g.Path("stdout"), []byte(stdout), 0o644))
		h.do(t, filepath.Join(g.Store, g.Name, newest))
		r := g.Start()
		if status := r.Wait(); status != finished {
			t.Errorf("%s: status %d, want %d; esky said:\n%s", h.name, status, finished, r.Stderr())
			continue
		}
		if got := g.Read("stdout"); got != want {
			t.Errorf("%s: the job's output is %q, want %q", h.name, got, want)
		}
		says(t, r.Stderr(), newest, h.verdict, "image 1 is tried")
	}
	t.Logf("%d kinds of damage: each time the image before was resumed", len(list))
}

// TestUndamagedImage is the other side of TestDamagedImage: without damage the
// newest image is resumed, and verify agrees.
func TestUndamagedImage(t *testing.T) {
	g := twoImages(t)
	if o := g.Esky("verify"); o.Status != 0 {
		t.Errorf("verify: %s", o)
	}
	r := g.Start()
	g.finish(r, 2)
}

// TestNoGoodImage damages all images: the job is not resumed from any of them,
// and not started anew either, which would throw away its work silently.
func TestNoGoodImage(t *testing.T) {
	g := twoImages(t)
	for _, dir := range g.Generations() {
		flip(t, filepath.Join(dir, "pages.img"), 5000)
	}
	images, before := g.Generations(), sum(t, g.Generations())
	g.Write("finish", "")
	r := g.Start()
	r.WaitFor(harness.ExitDamaged)
	says(t, r.Stderr(), "damaged")
	if after := sum(t, g.Generations()); after != before || len(g.Generations()) != len(images) {
		t.Error("the damaged images were changed")
	}
	if o := g.Esky("verify"); o.Status != harness.ExitDamaged {
		t.Errorf("verify of damaged images: %s", o)
	}
	if got := g.Read("stdout"); got != "ready\nstep 1\nstep 2\n" {
		t.Errorf("the job ran: its output is %q", got)
	}
}
