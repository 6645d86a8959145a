// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestTokensCountUp(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	if cur, err := s.Current(); cur != 0 || err != nil {
		t.Errorf("before the first: %d, %v", cur, err)
	}
	for want := Token(1); want <= 12; want++ { // past 9, where names sort differently
		if tok := mustTake(t, mustOpen(t, s.dir[:len(s.dir)-len(job)])); tok != want {
			t.Fatalf("token %d, want %d", tok, want)
		}
		if cur, err := s.Current(); cur != want || err != nil {
			t.Errorf("current %d, want %d: %v", cur, want, err)
		}
	}
	if tokens, err := s.tokens(); err != nil || len(tokens) != 1 {
		t.Errorf("token files %v, %v", tokens, err)
	}
}

// TestTakeWithoutLock: where locks do not work, no two get the same token.
func TestTakeWithoutLock(t *testing.T) {
	dir := t.TempDir()
	s, f := fake(t, dir)
	var other Token
	f.before = func(op string) error {
		if other == 0 && strings.HasPrefix(op, "write") {
			other = mustTake(t, mustOpen(t, dir))
		}
		return nil
	}
	if tok, err := s.Take(Holder{}); err != nil || other != 1 || tok != 2 {
		t.Errorf("tokens %d and %d, %v", other, tok, err)
	}
}

func TestTakeAtOnce(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir)
	var mu sync.Mutex
	var all []Token
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(dir, job)
			if err != nil {
				t.Error(err)
				return
			}
			tok, err := s.nextToken()
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, tok)
		})
	}
	wg.Wait()
	slices.Sort(all)
	if len(slices.Compact(all)) != 8 {
		t.Errorf("tokens %v", all)
	}
}

func TestStaleWriterStops(t *testing.T) {
	dir := t.TempDir()
	old := mustOpen(t, dir)
	tok := mustTake(t, old)
	mustPublish(t, old, tok, 1)
	p := mustBegin(t, old, tok)
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		t.Fatal(err)
	}
	young := mustOpen(t, dir)
	next := mustTake(t, young)
	for what, err := range map[string]error{
		"publish":    p.Publish(),
		"set holder": old.SetHolder(Holder{Token: tok, Host: "old"}),
		"set done":   old.SetDone(DoneRecord{Token: tok, Status: 9}),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := p.Abort(); err != nil {
		t.Errorf("abort: %v", err)
	}
	if _, err := old.Begin(tok); !errors.Is(err, ErrStale) {
		t.Errorf("begin: %v", err)
	}
	if d, err := young.Done(); d != nil || err != nil {
		t.Errorf("done: %v, %v", d, err)
	}
	if h, err := young.Holder(); err != nil || h.Host != "here" || h.Token != next {
		t.Errorf("holder: %+v, %v", h, err)
	}
	mustPublish(t, young, next, 1)
	if n := goodNumbers(t, young); !slices.Equal(n, []uint32{2, 1}) {
		t.Errorf("generations %v", n)
	}
}

// TestTakerThatDied took a token and then nothing else: the token alone stops
// the old writer.
func TestTakerThatDied(t *testing.T) {
	dir := t.TempDir()
	old := mustOpen(t, dir)
	tok := mustTake(t, old)
	p := mustBegin(t, old, tok)
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := mustOpen(t, dir).nextToken(); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); !errors.Is(err, ErrStale) {
		t.Errorf("publish: %v", err)
	}
	if n := numbers(t, old); len(n) > 0 {
		t.Errorf("generations %v", n)
	}
}

// TestTakenInTheLastMoment takes the store between the check of the token and
// any later step of the old writer.
func TestTakenInTheLastMoment(t *testing.T) {
	for _, moment := range []string{"sync", "rename"} {
		t.Run(moment, func(t *testing.T) {
			dir := t.TempDir()
			old, f := fake(t, dir)
			tok := mustTake(t, old)
			p := mustBegin(t, old, tok)
			if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
				t.Fatal(err)
			}
			young := mustOpen(t, dir)
			f.before = func(op string) error {
				if strings.HasPrefix(op, moment) {
					f.before = nil
					mustTake(t, young)
				}
				return nil
			}
			if err := p.Publish(); !errors.Is(err, ErrStale) {
				t.Errorf("publish: %v", err)
			}
			if n := numbers(t, young); len(n) > 0 {
				t.Errorf("generations %v", n)
			}
			if err := p.Abort(); err != nil {
				t.Errorf("abort: %v", err)
			}
		})
	}
}

func TestTokenFromTheFutureIsStaleToo(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	for _, wrong := range []Token{0, tok + 1} {
		if _, err := s.Begin(wrong); !errors.Is(err, ErrStale) {
			t.Errorf("begin with token %d: %v", wrong, err)
		}
	}
}

func TestOneWriterInAProcess(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	p := mustBegin(t, s, tok)
	if _, err := s.Begin(tok); !errors.Is(err, ErrBusy) {
		t.Errorf("second begin: %v", err)
	}
	if _, err := os.Stat(p.Dir()); err != nil {
		t.Errorf("the first one's directory: %v", err)
	}
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after abort: %v", err)
	}
	mustPublish(t, s, tok, 1)
}

func TestUnfinishedImageIsNotPublished(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	p := mustBegin(t, s, tok)
	if err := p.Publish(); err == nil {
		t.Error("an empty directory was published")
	}
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p.Dir()+"/index.pb", 100); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err == nil {
		t.Error("a damaged image was published")
	}
	if err := p.Abort(); err != nil {
		t.Error(err)
	}
	if n := numbers(t, s); len(n) > 0 {
		t.Errorf("generations %v", n)
	}
}

func TestAbortAfterPublish(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	tok := mustTake(t, s)
	p := mustBegin(t, s, tok)
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(); err != nil {
		t.Fatal(err)
	}
	q := mustBegin(t, s, tok)
	if err := p.Abort(); err != nil {
		t.Errorf("abort: %v", err)
	}
	if n := goodNumbers(t, s); !slices.Equal(n, []uint32{1}) {
		t.Errorf("generations %v", n)
	}
	if _, err := os.Stat(q.Dir()); err != nil {
		t.Errorf("another pending image: %v", err)
	}
}
