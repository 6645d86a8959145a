// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

const job = "slurm-12_3"

func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, job)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustTake(t testing.TB, s *Store) Token {
	t.Helper()
	tok, err := s.Take(Holder{Host: "here"})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func mustBegin(t testing.TB, s *Store, tok Token) *Pending {
	t.Helper()
	p, err := s.Begin(tok)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// writeImage writes an image of some pages.
func writeImage(dir string, gen uint32, pages int) error {
	w, err := image.Create(dir, image.Codec{})
	if err != nil {
		return err
	}
	defer w.Abort()
	buf := image.NewBuffer()
	defer image.FreeBuffer(buf)
	for i := range pages {
		if err := w.AddChunk(1, 0, []*imagepb.Extent{{Addr: uint64(i) << 20, Pages: 256}}, buf); err != nil {
			return err
		}
	}
	return w.Finish(&imagepb.Image{Job: job, Generation: gen})
}

func publish(s *Store, tok Token) error {
	p, err := s.Begin(tok)
	if err != nil {
		return err
	}
	defer p.Abort()
	if err := writeImage(p.Dir(), p.Generation(), 0); err != nil {
		return err
	}
	return p.Publish()
}

func mustPublish(t testing.TB, s *Store, tok Token, times int) {
	t.Helper()
	for range times {
		if err := publish(s, tok); err != nil {
			t.Fatal(err)
		}
	}
}

// numbers returns what Generations shows.
func numbers(t testing.TB, s *Store) []uint32 {
	t.Helper()
	gens, err := s.Generations()
	if err != nil {
		t.Fatal(err)
	}
	var n []uint32
	for _, g := range gens {
		n = append(n, g.Number)
	}
	return n
}

// goodNumbers returns the generations that are in order, with their number.
func goodNumbers(t testing.TB, s *Store) []uint32 {
	t.Helper()
	gens, err := s.Generations()
	if err != nil {
		t.Fatal(err)
	}
	var n []uint32
	for _, g := range gens {
		r, err := image.Open(g.Dir)
		if err != nil {
			continue
		}
		if r.Verify(context.Background(), nil) == nil && r.Meta().Generation == g.Number {
			n = append(n, g.Number)
		}
		r.Close()
	}
	return n
}

func damage(t testing.TB, s *Store, gen uint32) {
	t.Helper()
	if err := os.Truncate(filepath.Join(s.path(generationName(gen)), "meta.pb"), 1); err != nil {
		t.Fatal(err)
	}
}

// hidden lists the store's own files that must not outlive a crash.
func hidden(t testing.TB, s *Store) []string {
	t.Helper()
	names, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, ".") })
}

var errCrash = errors.New("the machine is gone")

// fakeFS passes operations on, notes them, and does to them what a test wants.
type fakeFS struct {
	fileSystem
	root   string
	log    []string
	before func(op string) error // an error is the operation's, which does not happen
}

func (f *fakeFS) note(op string, paths ...string) error {
	for _, p := range paths {
		rel, err := filepath.Rel(f.root, p)
		if err != nil {
			return err
		}
		op += " " + rel
	}
	f.log = append(f.log, op)
	if f.before != nil {
		return f.before(op)
	}
	return nil
}

func (f *fakeFS) Mkdir(path string) error {
	if err := f.note("mkdir", path); err != nil {
		return err
	}
	return f.fileSystem.Mkdir(path)
}

// WriteNew leaves an empty file when it fails, as a full disk does.
func (f *fakeFS) WriteNew(path string, data []byte) error {
	name := path
	if i := strings.Index(path, tempPrefix); i >= 0 {
		name = strings.TrimRight(path, "0123456789") + "PID"
	}
	if err := f.note("write", name); err != nil {
		_ = f.fileSystem.WriteNew(path, nil)
		return err
	}
	return f.fileSystem.WriteNew(path, data)
}

func (f *fakeFS) Rename(from, to string) error {
	if err := f.note("rename to", to); err != nil {
		return err
	}
	return f.fileSystem.Rename(from, to)
}

func (f *fakeFS) RenameDir(from, to string) error {
	if err := f.note("rename", from, to); err != nil {
		return err
	}
	return f.fileSystem.RenameDir(from, to)
}

func (f *fakeFS) Sync(dir string) error {
	if err := f.note("sync", dir); err != nil {
		return err
	}
	return f.fileSystem.Sync(dir)
}

func (f *fakeFS) Remove(path string) error {
	if strings.Contains(path, tempPrefix) { // there only after a crash
		return f.fileSystem.Remove(path)
	}
	if err := f.note("remove", path); err != nil {
		return err
	}
	return f.fileSystem.Remove(path)
}

// RemoveAll removes a part when it fails.
func (f *fakeFS) RemoveAll(path string) error {
	if err := f.note("remove all", path); err != nil {
		_ = f.fileSystem.Remove(filepath.Join(path, "meta.pb"))
		return err
	}
	return f.fileSystem.RemoveAll(path)
}

func fake(t testing.TB, dir string) (*Store, *fakeFS) {
	t.Helper()
	f := &fakeFS{fileSystem: osFS{}, root: dir}
	s, err := open(f, dir, job)
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}
