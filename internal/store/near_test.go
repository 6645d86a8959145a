// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// hosts is a store and two hosts with a near place each.
func hosts(t *testing.T) (far *Store, a, b *Near) {
	t.Helper()
	far, err := Open(filepath.Join(t.TempDir(), "store"), "J")
	if err != nil {
		t.Fatal(err)
	}
	near := func(name string) *Near {
		n, err := far.Near(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return far, near("a"), near("b")
}

// incarnate begins an incarnation as the monitor does, and tells whether the
// images of near were believed.
func incarnate(t *testing.T, far *Store, near *Near, host string) (Token, bool) {
	t.Helper()
	ok, err := near.Believed()
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		if err := near.RemoveImages(); err != nil {
			t.Fatal(err)
		}
	}
	h := Holder{Host: host, Started: time.Now()}
	if h.Token, err = far.Take(h); err != nil {
		t.Fatal(err)
	}
	if err := near.Follow(h); err != nil {
		t.Fatal(err)
	}
	return h.Token, ok
}

func publishNear(t *testing.T, n *Near, tok Token) {
	t.Helper()
	p, err := n.Begin(tok)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err != nil {
		t.Fatal(err)
	}
}

func drain(t *testing.T, n *Near) uint32 {
	t.Helper()
	got, err := n.Drain(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestNearIsDrained(t *testing.T) {
	far, a, _ := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	publishNear(t, a, tok)
	if got := drain(t, a); got != 2 {
		t.Errorf("brought image %d", got)
	}
	if d := cmp.Diff([]uint32{2}, goodNumbers(t, far)); d != "" {
		t.Error(d)
	}
	if got := drain(t, a); got != 0 {
		t.Errorf("brought image %d again", got)
	}
	publishNear(t, a, tok)
	if d := cmp.Diff([]uint32{3, 2, 1}, numbers(t, &a.Store)); d != "" {
		t.Error(d)
	}
	if left := hidden(t, far); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// On the same host, an image that was never drained is as good as any.
func TestNearIsBelievedOnItsHost(t *testing.T) {
	far, a, _ := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	tok, ok := incarnate(t, far, a, "a")
	if !ok || !cmp.Equal(numbers(t, &a.Store), []uint32{1}) {
		t.Errorf("believed: %v, images %v", ok, numbers(t, &a.Store))
	}
	publishNear(t, a, tok)
	if got := drain(t, a); got != 2 {
		t.Errorf("brought image %d", got)
	}
}

// Once the job has run elsewhere, what was never drained is of another past.
func TestNearIsNotBelievedAfterwards(t *testing.T) {
	far, a, b := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	drain(t, a)
	publishNear(t, a, tok) // host a fails
	other, _ := incarnate(t, far, b, "b")
	if _, err := a.Drain(context.Background()); !errors.Is(err, ErrStale) {
		t.Errorf("drained late: %v", err)
	}
	if _, err := a.Begin(tok); !errors.Is(err, ErrStale) {
		t.Errorf("a writer that was left behind goes on: %v", err)
	}
	publishNear(t, b, other)
	if d := cmp.Diff([]uint32{2}, numbers(t, &b.Store)); d != "" {
		t.Error(d)
	}
	if _, ok := incarnate(t, far, a, "a"); ok || len(numbers(t, &a.Store)) != 0 {
		t.Error("the image of another past is believed in")
	}
	if d := cmp.Diff([]uint32{1}, goodNumbers(t, far)); d != "" {
		t.Error(d)
	}
}

// A store that was removed and begun anew counts tokens from 1 again.
func TestNearOfAnEarlierStore(t *testing.T) {
	far, a, b := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	if err := os.RemoveAll(far.Dir()); err != nil {
		t.Fatal(err)
	}
	anew, err := Open(filepath.Dir(far.Dir()), "J")
	if err != nil {
		t.Fatal(err)
	}
	incarnate(t, anew, b, "b")
	if ok, err := a.Believed(); ok || err != nil {
		t.Errorf("believed %v, %v", ok, err)
	}
}

func TestNearStages(t *testing.T) {
	far, a, b := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	drain(t, a)
	if got, err := b.Stage(context.Background()); got != 1 || err != nil {
		t.Fatalf("staged %d, %v", got, err)
	}
	if _, ok := incarnate(t, far, b, "b"); !ok {
		t.Error("what was staged is not believed in")
	}
	if d := cmp.Diff([]uint32{1}, goodNumbers(t, &b.Store)); d != "" {
		t.Error(d)
	}
}

// A copy counts only when all of it is right, and an older good one is better
// than none.
func TestNearDamaged(t *testing.T) {
	far, a, _ := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	publishNear(t, a, tok)
	damage(t, &a.Store, 2)
	if got := drain(t, a); got != 1 {
		t.Errorf("brought image %d", got)
	}
	publishNear(t, a, tok)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := a.Drain(ctx); err == nil {
		t.Errorf("interrupted, and yet image %d", got)
	}
	if d := cmp.Diff([]uint32{1}, numbers(t, far)); d != "" {
		t.Error(d)
	}
	if left := hidden(t, far); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// What only its provider can verify is compared with what it was copied from.
func TestNearForeign(t *testing.T) {
	far, a, _ := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	p, err := a.Begin(tok)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeForeign(p.Dir(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, a); got != 1 {
		t.Fatalf("brought image %d", got)
	}
	original, copied := a.path(generationName(1)), far.path(generationName(1))
	if err := verify(t.Context(), copied, original); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "files", "0"), []byte("strAnge"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(t.Context(), copied, original); !errors.As(err, new(*image.DamagedError)) {
		t.Errorf("a copy that is another: %v", err)
	}
}

// writeForeign writes an image of a provider that has checksums of its own.
func writeForeign(dir, from string) error {
	w, err := image.CreateForeign(dir, true)
	if err != nil {
		return err
	}
	defer w.Abort()
	path := filepath.Join(from, "file")
	if err := os.WriteFile(path, []byte("strange"), 0o600); err != nil {
		return err
	}
	if err := w.Take("0", path); err != nil {
		return err
	}
	return w.Finish(&imagepb.Image{Job: job, Foreign: &imagepb.Foreign{Provider: "other", Files: []*imagepb.ForeignFile{{Path: "file"}}}})
}

func noteOf(far *Store, near *Near) Note {
	return Note{Store: filepath.Dir(far.Dir()), Job: "J", Near: filepath.Dir(near.Dir()), Keep: 2}
}

// What the epilog does for a monitor that was killed.
func TestNote(t *testing.T) {
	far, a, b := hosts(t)
	path := filepath.Join(t.TempDir(), "note")
	for range 2 { // one of an earlier run may be there
		if err := noteOf(far, a).Write(path); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	note, err := ReadNote(text)
	if err != nil || note != noteOf(far, a) {
		t.Fatalf("%+v, %v", note, err)
	}
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	if _, err := a.Begin(tok); err != nil { // killed while writing the next
		t.Fatal(err)
	}
	lock, err := far.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Drain(context.Background()); !errors.Is(err, ErrLocked) {
		t.Errorf("the job runs: %v", err)
	}
	lock.Close()
	if n, err := note.Drain(context.Background()); n != 1 || err != nil {
		t.Errorf("brought image %d, %v", n, err)
	}
	if d := cmp.Diff([]uint32{1}, goodNumbers(t, far)); d != "" {
		t.Error(d)
	}
	gone(t, a)
	if n, err := noteOf(far, b).Stage(context.Background()); n != 1 || err != nil {
		t.Errorf("staged image %d, %v", n, err)
	}
}

// A place whose images nobody will want is removed.
func TestNoteOfNoUse(t *testing.T) {
	far, a, b := hosts(t)
	tok, _ := incarnate(t, far, a, "a")
	publishNear(t, a, tok)
	other, _ := incarnate(t, far, b, "b")
	publishNear(t, b, other)
	if _, err := noteOf(far, a).Drain(context.Background()); !errors.Is(err, ErrStale) {
		t.Errorf("of another past: %v", err)
	}
	gone(t, a)
	if err := os.RemoveAll(far.Dir()); err != nil {
		t.Fatal(err)
	}
	if _, err := noteOf(far, b).Drain(context.Background()); !errors.Is(err, ErrNoJob) {
		t.Errorf("without a store: %v", err)
	}
	gone(t, b)
}

func gone(t *testing.T, n *Near) {
	t.Helper()
	if _, err := os.Lstat(n.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", n.Dir(), err)
	}
}

func TestReadNoteRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `{"Store":"a","Near":"/b"}`, `{"Store":"/a"}`} {
		if n, err := ReadNote([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, n)
		}
	}
}
