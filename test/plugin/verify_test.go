// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/test/harness"
)

// TestVerify: images of a provider that verifies them itself have no checksums of
// ours. A damaged one is found all the same, by `verify` and before it is resumed, and
// is not called good where nobody is there to verify it.
func TestVerify(t *testing.T) {
	if os.Getenv(providerVar) != "" {
		t.Skip("part of the outer run")
	}
	t.Parallel()
	j := badJob(t, "good")
	r := j.Start()
	r.Until("it is at work", func() bool { return j.Read("step") != "" })
	j.Checkpoint()
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	images := j.Generations()
	manifest, err := os.ReadFile(filepath.Join(images[1], "manifest"))
	if err != nil || !strings.HasPrefix(string(manifest), "esky-image 4\n") {
		t.Errorf("%v: %s", err, manifest)
	}
	verify := func(how string, status int, words ...string) {
		t.Helper()
		o := j.Command("env", how, harness.Wrap(), "verify", "--store", j.Store, j.Name)
		said := o.Stdout + o.Stderr
		for _, w := range words {
			if o.Status != status || !strings.Contains(said, w) || strings.Contains(said, ".temp-provider") {
				t.Errorf("want status %d and %q: %s", status, w, o)
			}
		}
	}
	there := plugin.PathVariable + "=" + j.Path("plugins")
	verify(there, 0, images[0]+": good", images[1]+": good")
	verify("A=B", harness.ExitHost, "cannot be verified without its provider: there is no esky-provider-good", "set "+plugin.PathVariable)

	damage(t, images[1])
	verify(there, harness.ExitDamaged, images[0]+": good", "image "+images[1]+" is damaged: chunk ")
	r = j.Start()
	r.Until("it was resumed", func() bool { return strings.Contains(r.Stderr(), "resumed job from checkpoint 1") })
	if said := r.Stderr(); !strings.Contains(said, "taken as damaged, image 1 is tried instead") {
		t.Errorf("it said %s", said)
	}
	at := j.Read("step")
	r.Until("it goes on", func() bool { return j.Read("step") != at })
	j.Write("go", "")
	r.WaitFor(3)
}

// damage changes one byte of the largest file of an image.
func damage(t *testing.T, dir string) {
	t.Helper()
	var largest string
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "files", "*"))
	for _, path := range files {
		if fi, e := os.Stat(path); e == nil && fi.Size() > size {
			largest, size = path, fi.Size()
		}
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, size/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, size/2); err != nil {
		t.Fatal(err)
	}
}
