// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/store"
)

func nearRig(t *testing.T) *rig {
	r := newRig(t)
	r.cfg.Local = filepath.Join(t.TempDir(), "near")
	return r
}

func notes(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.Getenv("ESKY_RUNTIME_DIR"), "*"+store.NoteSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// An image is in the near place first, and in the store soon.
func TestNearImageIsBrought(t *testing.T) {
	r := nearRig(t)
	job := r.start()
	saved := r.checkpoint()
	for range 500 {
		if len(r.generations()) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d := cmp.Diff([]uint32{saved.Generation}, r.generations()); d != "" {
		t.Error(d)
	}
	if len(notes(t)) != 1 {
		t.Errorf("notes for the epilog: %q", notes(t))
	}
	job.exit(0)
	r.want(0, "")
	if left, _ := filepath.Glob(filepath.Join(r.cfg.Local, "*", "gen-*")); len(left)+len(notes(t)) > 0 {
		t.Errorf("left behind: %q, %q", left, notes(t))
	}
}

// The last image is in the store before the job is given up.
func TestNearImageOfAJobThatLeaves(t *testing.T) {
	r := nearRig(t)
	r.start()
	r.signals <- syscall.SIGTERM
	r.want(99, "")
	if d := cmp.Diff([]uint32{1}, r.generations()); d != "" {
		t.Error(d)
	}
	if len(notes(t)) > 0 {
		t.Errorf("notes for the epilog: %q", notes(t))
	}
}

// An image that could not be brought is resumed where it is; then, it is brought.
func TestNearImageIsResumedOnItsHost(t *testing.T) {
	r := nearRig(t)
	r.start()
	record := filepath.Join(r.store().Dir(), "state.json") // without it nothing can be brought
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, record, []byte("{"))
	r.signals <- syscall.SIGTERM
	r.want(99, "")
	if len(r.generations()) > 0 || len(notes(t)) != 1 {
		t.Fatalf("images in the store: %v; notes %q", r.generations(), notes(t))
	}
	replaceFile(t, record, good)
	wantPlace(t, r, []string{r.cfg.Local}, "")
	replaceFile(t, record, bytes.Replace(good, []byte(hostname()), []byte("another"), 1))
	wantPlace(t, r, nil, " on another")
	replaceFile(t, record, good)
	again := r.again()
	again.start()
	if texts := again.events.find("resumed"); len(texts) != 1 {
		t.Errorf("resumed: %q", texts)
	}
	again.signals <- syscall.SIGTERM
	again.want(99, "")
	if d := cmp.Diff([]uint32{2}, again.generations()); d != "" {
		t.Error(d)
	}
	wantPlace(t, r, []string{r.cfg.Store}, "")
	if h, err := r.store().Holder(); err != nil || h.Local != "" {
		t.Errorf("the store does not know that it has all images: %+v, %v", h, err)
	}
}

// The newest image is on this host only, and damaged: the store's is resumed.
func TestDamagedNearImage(t *testing.T) {
	r := nearRig(t)
	r.start()
	r.checkpoint()
	for end := time.Now().Add(5 * time.Second); len(r.generations()) == 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	record := filepath.Join(r.store().Dir(), "state.json") // without it nothing can be brought
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, record, []byte("{"))
	r.signals <- syscall.SIGTERM
	r.want(99, "")
	replaceFile(t, record, good)
	manifests, err := filepath.Glob(filepath.Join(r.cfg.Local, "*", "gen-000002", "manifest"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("%q, %v", manifests, err)
	}
	replaceFile(t, manifests[0], []byte("?"))
	again := r.again()
	again.start().exit(0)
	again.want(0, "")
	if d := cmp.Diff([]string{"gen-000001"}, r.engine.resumed); d != "" {
		t.Error(d)
	}
	if texts := again.events.find("damaged"); len(texts) != 1 {
		t.Errorf("told of damage: %q", texts)
	}
}

// wantPlace checks which images other commands see, by the directories that they are
// below, and what they tell of those that they cannot see.
func wantPlace(t *testing.T, r *rig, below []string, elsewhere string) {
	t.Helper()
	p, err := Locate(r.cfg.Store, "fake-7")
	if err != nil {
		t.Fatal(err)
	}
	images, err := p.Images()
	if err != nil || len(images) != len(below) {
		t.Fatalf("images %v, %v", images, err)
	}
	for i, g := range images {
		if !strings.HasPrefix(g.Dir, below[i]+"/") {
			t.Errorf("image in %s, not below %s", g.Dir, below[i])
		}
	}
	if e := p.Elsewhere(); (e == "") != (elsewhere == "") || !strings.HasSuffix(e, elsewhere) {
		t.Errorf("elsewhere: %q", e)
	}
	if want := map[bool]string{true: "saved", false: "not running"}[len(below) > 0]; p.State() != want {
		t.Errorf("state %s, not %s", p.State(), want)
	}
}

func replaceFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
