// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestGenerations(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	if n := numbers(t, s); len(n) > 0 {
		t.Errorf("generations %v", n)
	}
	start := time.Now().Add(-time.Second)
	mustPublish(t, s, tok, 11)
	for _, name := range []string{"gen-1", "gen-0000012", "gen-000000", "gen-x", "saved"} { // not ours
		if err := os.Mkdir(s.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	gens, err := s.Generations()
	if err != nil || len(gens) != 11 {
		t.Fatalf("%d generations, %v", len(gens), err)
	}
	for i, g := range gens {
		if g.Number != uint32(11-i) || g.Dir != s.path(generationName(g.Number)) || g.Time.Before(start) || g.Size < 4096 || g.Size > 8192 {
			t.Errorf("generation %d: %+v", i, g)
		}
	}
}

func TestGenerationNames(t *testing.T) {
	for _, n := range []uint32{1, 999999, 1000000, 4294967295} {
		if got, ok := parseGeneration(generationName(n)); !ok || got != n {
			t.Errorf("%d becomes %d, %v", n, got, ok)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("gen-000001")
	f.Add("token.1")
	f.Fuzz(func(t *testing.T, name string) {
		if n, ok := parseGeneration(name); ok && generationName(n) != name {
			t.Errorf("%q is generation %d", name, n)
		}
		if n, ok := parseToken(name); ok && tokenName(n) != name {
			t.Errorf("%q is token %d", name, n)
		}
	})
}

func TestPrune(t *testing.T) {
	for what, tc := range map[string]struct {
		keep    int
		damaged []uint32
		want    []uint32
	}{
		"all good":                {2, nil, []uint32{5, 4}},
		"keep one":                {1, nil, []uint32{5}},
		"keep none keeps one":     {0, nil, []uint32{5}},
		"keep less than none":     {-1, nil, []uint32{5}},
		"keep more":               {9, nil, []uint32{5, 4, 3, 2, 1}},
		"newest damaged":          {1, []uint32{5}, []uint32{5, 4}},
		"damaged in between":      {2, []uint32{4}, []uint32{5, 4, 3}},
		"only the oldest is good": {2, []uint32{5, 4, 3, 2}, []uint32{5, 4, 3, 2, 1}},
		"old damaged":             {2, []uint32{1, 2}, []uint32{5, 4}},
		"none good":               {1, []uint32{1, 2, 3, 4, 5}, []uint32{5, 4, 3, 2, 1}},
	} {
		t.Run(what, func(t *testing.T) {
			s := mustOpen(t, t.TempDir())
			mustPublish(t, s, mustTake(t, s), 5)
			for _, n := range tc.damaged {
				damage(t, s, n)
			}
			if err := s.Prune(tc.keep); err != nil {
				t.Fatal(err)
			}
			if n := numbers(t, s); !slices.Equal(n, tc.want) {
				t.Errorf("left %v, want %v", n, tc.want)
			}
			if h := hidden(t, s); len(h) > 0 {
				t.Errorf("left over: %q", h)
			}
		})
	}
}

func TestNumbersGoOn(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	mustPublish(t, s, tok, 3)
	damage(t, s, 3)
	p := mustBegin(t, s, tok)
	if p.Generation() != 4 {
		t.Errorf("generation %d after a damaged 3", p.Generation())
	}
}

func TestLeftoversGo(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	mustPublish(t, s, tok, 1)
	for _, name := range []string{".pending-2.1/files", ".pending-7.9", ".trash-gen-000009.0/files", ".trash-pending-2.1.0", ".temp-x.1/y"} {
		if err := os.MkdirAll(s.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".temp-done.json.4711", ".pending-2.1/files/0", ".trash-gen-000009.0/pages.img"} {
		if err := os.WriteFile(s.path(name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := mustBegin(t, s, tok)
	if h := hidden(t, s); !slices.Equal(h, []string{filepath.Base(p.Dir())}) {
		t.Errorf("left over: %q", h)
	}
	if n := goodNumbers(t, s); !slices.Equal(n, []uint32{1}) {
		t.Errorf("generations %v", n)
	}
}

func TestRemoveImagesKeepsTheRest(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	mustPublish(t, s, tok, 2)
	damage(t, s, 1)
	if err := os.Mkdir(s.Saved(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDone(DoneRecord{Status: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveImages(); err != nil {
		t.Fatal(err)
	}
	names, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{doneFile, "saved", holderFile, "token.1"}) {
		t.Errorf("left %q", names)
	}
}
