// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/test/harness"
	"google.golang.org/protobuf/proto"
)

// noNamespaces runs a command in a user namespace that allows no further ones:
// to the command it is a host on which user namespaces are switched off
// (user_namespaces(7), /proc/sys/user). It has the ordinary user's ids and no
// capabilities.
var noNamespaces = []string{"unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c",
	`echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all "$@"`, "sh"}

func needNoNamespaces(t *testing.T, g *gate) {
	t.Helper()
	line := append(append([]string{}, noNamespaces...), "true")
	if o := g.Command(line...); o.Status != 0 {
		t.Skipf("no user namespaces to test in (util-linux 2.38 and user namespaces are needed): %s", o)
	}
	line = append(append([]string{}, noNamespaces...), "unshare", "--user", "true")
	if o := g.Command(line...); o.Status == 0 {
		t.Fatal("user namespaces are still allowed")
	}
}

// TestNoNamespaces starts, saves and resumes a job where user namespaces are
// switched off, and asks the doctor.
func TestNoNamespaces(t *testing.T) {
	g := newGate(t, 1)
	needNoNamespaces(t, g)
	g.Under = noNamespaces
	r := g.start()
	g.advance(r)
	g.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	g.shut()
	says(t, r.Stderr(), "namespace", "shim mode", "doctor")
	g.finish(g.Start(), 1)
	o := g.Command(append(append([]string{}, noNamespaces...), harness.Wrap(), "doctor")...)
	if o.Status != 0 {
		t.Errorf("doctor: %s", o)
	}
	says(t, o.Stdout+o.Stderr, "namespace", "max_user_namespaces", "shim mode")
}

// TestDoctor asks the doctor on this host, where the other tests run jobs.
func TestDoctor(t *testing.T) {
	g := newGate(t, 1)
	o := g.Command(harness.Wrap(), "doctor", "--json")
	if o.Status != 0 {
		t.Errorf("doctor: %s", o)
	}
	if !json.Valid([]byte(o.Stdout)) {
		t.Errorf("doctor --json: %q", o.Stdout)
	}
}

// TestMappedFile takes the job's program away, replaces it by another build,
// and puts it back.
func TestMappedFile(t *testing.T) {
	g := twoImages(t)
	before := sum(t, g.Generations())
	refused := func(what string) {
		t.Helper()
		r := g.Start()
		r.WaitFor(harness.ExitHost)
		says(t, r.Stderr(), g.program)
		if sum(t, g.Generations()) != before {
			t.Errorf("%s: the images were changed", what)
		}
		if o := g.Esky("match"); o.Status != harness.ExitHost || !strings.Contains(o.Stdout+o.Stderr, g.program) {
			t.Errorf("%s: match: %s", what, o)
		}
	}
	must(t, os.Rename(g.program, g.program+".away"))
	refused("removed")
	source := filepath.Join(harness.Root(), "test/fault/programs/gate.c")
	harness.Compile(t, g.program, source, "gcc", "-O3", "-DANOTHER=1")
	refused("replaced")
	must(t, os.Rename(g.program+".away", g.program))
	if o := g.Esky("match"); o.Status != 0 {
		t.Errorf("match with the file put back: %s", o)
	}
	g.finish(g.Start(), 2)
}

// TestCPUFeature makes an image that needs a CPU nobody has: a copy of a good
// one with one more feature.
func TestCPUFeature(t *testing.T) {
	g := twoImages(t)
	rewriteAll(t, g, func(m *imagepb.Image) {
		m.Host.CpuFeatures = append(m.Host.CpuFeatures, "avx9000")
	})
	before := sum(t, g.Generations())
	r := g.Start()
	r.WaitFor(harness.ExitHost)
	says(t, r.Stderr(), "avx9000")
	if sum(t, g.Generations()) != before {
		t.Error("the images were changed")
	}
}

// TestVDSO makes an image of a job that ran under another kernel.
func TestVDSO(t *testing.T) {
	g := twoImages(t)
	rewriteAll(t, g, func(m *imagepb.Image) { m.Host.VdsoSha256[0] ^= 1 })
	r := g.Start()
	r.WaitFor(harness.ExitHost)
	says(t, r.Stderr(), "vdso")
}

// rewriteAll writes each image of the job anew with changed metadata.
func rewriteAll(t *testing.T, g *gate, change func(*imagepb.Image)) {
	t.Helper()
	for _, dir := range g.Generations() {
		next := dir + ".new"
		must(t, os.Mkdir(next, 0o700))
		rewrite(t, dir, next, change)
		must(t, os.RemoveAll(dir))
		must(t, os.Rename(next, dir))
		if os.Getuid() == 0 {
			if out, err := exec.Command("chown", "-R", "1000:1000", dir).CombinedOutput(); err != nil {
				t.Fatalf("chown: %v: %s", err, out)
			}
		}
	}
	if o := g.Esky("verify"); o.Status != 0 {
		t.Fatalf("the rewritten image is not good: %s", o)
	}
}

func rewrite(t *testing.T, from, to string, change func(*imagepb.Image)) {
	t.Helper()
	if os.Getuid() == 0 { // an image is only read by its owner
		if out, err := exec.Command("chown", "-R", "0:0", from).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	r, err := image.Open(from)
	must(t, err)
	defer r.Close()
	codec, err := image.ParseCodec("none")
	must(t, err)
	w, err := image.Create(to, codec)
	must(t, err)
	copyChunks(t, r, w)
	copyFiles(t, r, w, from)
	meta := proto.Clone(r.Meta()).(*imagepb.Image)
	change(meta)
	must(t, w.Finish(meta))
}

func copyChunks(t *testing.T, r *image.Reader, w *image.Writer) {
	t.Helper()
	buffer := image.NewBuffer()
	defer image.FreeBuffer(buffer)
	for i, c := range r.Index().Chunks {
		raw, err := r.ReadChunk(i, buffer)
		must(t, err)
		must(t, w.AddChunk(c.Pid, c.Object, c.Extents, raw))
	}
}

func copyFiles(t *testing.T, r *image.Reader, w *image.Writer, dir string) {
	t.Helper()
	saved, err := filepath.Glob(filepath.Join(dir, "files", "*"))
	must(t, err)
	for _, path := range saved {
		in, err := r.OpenFile(filepath.Base(path))
		must(t, err)
		out, err := w.CreateFile(filepath.Base(path))
		must(t, err)
		_, err = io.Copy(out, in)
		must(t, err)
		must(t, out.Close())
		must(t, in.Close())
	}
}
