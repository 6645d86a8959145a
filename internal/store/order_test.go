// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// life is all that happens to the store of a job, in steps.
var life = []struct {
	name string
	do   func(*Store) error
	want string
}{
	{"take", func(s *Store) error { _, err := s.Take(Holder{}); return err }, `
		write J/token.1
		sync J
		write J/.temp-state.json.PID
		rename to J/state.json
		sync J`},
	{"first image", func(s *Store) error { return publish(s, 1) }, `
		mkdir J/.pending-1.1
		sync J/.pending-1.1
		rename J/.pending-1.1 J/gen-000001
		sync J`},
	{"second image", func(s *Store) error { return publish(s, 1) }, `
		mkdir J/.pending-2.1
		sync J/.pending-2.1
		rename J/.pending-2.1 J/gen-000002
		sync J`},
	{"prune", func(s *Store) error { return s.Prune(1) }, `
		rename J/gen-000001 J/.trash-gen-000001.0
		remove all J/.trash-gen-000001.0`},
	{"killed while writing", func(s *Store) error { _, err := s.Begin(1); s.pending = nil; return err }, `
		mkdir J/.pending-3.1`},
	{"take over", func(s *Store) error { _, err := s.Take(Holder{}); return err }, `
		write J/token.2
		sync J
		rename J/.pending-3.1 J/.trash-pending-3.1.0
		remove all J/.trash-pending-3.1.0
		remove J/token.1
		write J/.temp-state.json.PID
		rename to J/state.json
		sync J`},
	{"progress", func(s *Store) error { return s.SetProgress(Progress{Generation: 2, Count: 1}) }, `
		write J/.temp-progress.json.PID
		rename to J/progress.json
		sync J`},
	{"third image", func(s *Store) error { return publish(s, 2) }, `
		mkdir J/.pending-3.2
		sync J/.pending-3.2
		rename J/.pending-3.2 J/gen-000003
		sync J`},
	{"done", func(s *Store) error { return s.SetDone(DoneRecord{Token: 2, Status: 3}) }, `
		write J/.temp-done.json.PID
		rename to J/done.json
		sync J`},
	{"remove images", (*Store).RemoveImages, `
		rename J/gen-000002 J/.trash-gen-000002.0
		remove all J/.trash-gen-000002.0
		rename J/gen-000003 J/.trash-gen-000003.0
		remove all J/.trash-gen-000003.0`},
}

func lines(s string) []string {
	var out []string
	for _, l := range strings.Split(strings.ReplaceAll(s, "J", job), "\n") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// TestOrder compares each change of storage with the one that is safe: what is
// renamed into place is synced before, and the directory after.
func TestOrder(t *testing.T) {
	s, f := fake(t, t.TempDir())
	if d := cmp.Diff(lines("mkdir J\nsync ."), f.log); d != "" {
		t.Errorf("open: %s", d)
	}
	for _, step := range life {
		f.log = nil
		if err := step.do(s); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if d := cmp.Diff(lines(step.want), f.log); d != "" {
			t.Errorf("%s: %s", step.name, d)
		}
	}
	if h := hidden(t, s); len(h) > 0 {
		t.Errorf("left over: %q", h)
	}
}

// TestCrashAnywhere stops the machine at every operation in turn, and looks at
// the store as the next incarnation of the job will.
func TestCrashAnywhere(t *testing.T) {
	total := 0
	for _, step := range life {
		total += len(lines(step.want))
	}
	for at := range total {
		dir := t.TempDir()
		s, f := fake(t, dir)
		n := 0
		f.before = func(string) error {
			if n++; n > at {
				return errCrash
			}
			return nil
		}
		var must []uint32 // images that must still be good
		crashed := ""
		for _, step := range life {
			if err := step.do(s); err != nil {
				crashed = step.name
				break
			}
			must = goodNumbers(t, mustOpen(t, dir))
		}
		switch crashed {
		case "":
			t.Fatalf("operation %d of %d never came", at, total)
		case "prune":
			must = []uint32{2}
		case "remove images":
			must = nil
		}
		afterCrash(t, dir, crashed, must)
	}
}

func afterCrash(t *testing.T, dir, crashed string, must []uint32) {
	t.Helper()
	s := mustOpen(t, dir)
	good := goodNumbers(t, s)
	for _, n := range must {
		if !slices.Contains(good, n) {
			t.Errorf("crash in %q: generation %d is lost; good are %v", crashed, n, good)
		}
	}
	if all := numbers(t, s); len(all) != len(good) {
		t.Errorf("crash in %q: generations %v, but good are %v", crashed, all, good)
	}
	if _, err := s.Done(); err != nil {
		t.Errorf("crash in %q: done record: %v", crashed, err)
	}
	if _, err := s.Holder(); err != nil {
		t.Errorf("crash in %q: holder: %v", crashed, err)
	}
	if _, err := s.Progress(); err != nil {
		t.Errorf("crash in %q: progress: %v", crashed, err)
	}
	if err := publish(s, mustTake(t, s)); err != nil {
		t.Errorf("crash in %q: no image after it: %v", crashed, err)
	}
	if h := hidden(t, s); len(h) > 0 {
		t.Errorf("crash in %q: left over: %q", crashed, h)
	}
}

var errnos = []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EIO}

// TestRefusedAnywhere lets each operation fail as storage does. The error says
// so, and once storage is back the same process goes on.
func TestRefusedAnywhere(t *testing.T) {
	for i, step := range life {
		for at := range lines(step.want) {
			refuse(t, i, at, errnos[(i+at)%len(errnos)])
		}
	}
}

func refuse(t *testing.T, i, at int, errno unix.Errno) {
	t.Helper()
	step := life[i]
	s, f := fake(t, t.TempDir())
	for _, earlier := range life[:i] {
		if err := earlier.do(s); err != nil {
			t.Fatal(err)
		}
	}
	good := goodNumbers(t, s)
	n := 0
	f.before = func(string) error {
		if n++; n == at+1 {
			return errno
		}
		return nil
	}
	err := step.do(s)
	if !errors.Is(err, ErrNotWritable) || !errors.Is(err, errno) || !strings.Contains(err.Error(), s.Dir()) {
		t.Errorf("%s, operation %d, %v: %v", step.name, at, errno, err)
	}
	if step.name != "remove images" && step.name != "prune" && len(goodNumbers(t, s)) < len(good) {
		t.Errorf("%s, operation %d: an image is lost", step.name, at)
	}
	f.before = nil
	if err := publish(s, mustTake(t, s)); err != nil {
		t.Errorf("%s, operation %d, %v: no image after it: %v", step.name, at, errno, err)
	}
}
