// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"os"
	"path/filepath"
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
}

func replaceFile(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
