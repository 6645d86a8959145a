// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/esky-hpc/esky/internal/image"
)

const (
	pendingPrefix = ".pending-"
	trashPrefix   = ".trash-"
)

// Pending is an image that is being written. It ends with Publish or Abort.
type Pending struct {
	s   *Store
	dir string
	gen uint32
	tok Token
}

// Begin makes an empty directory for the next generation and removes what dead
// writers have left. ErrBusy: this process is writing one already.
func (s *Store) Begin(tok Token) (*Pending, error) { return s.begin(tok, 1) }

// begin numbers the generation least or higher.
func (s *Store) begin(tok Token, least uint32) (*Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, ErrBusy)
	}
	if err := s.checkToken(tok); err != nil {
		return nil, err
	}
	if err := s.removeLeftovers(); err != nil {
		return nil, err
	}
	gen, err := s.nextGeneration()
	if err != nil {
		return nil, err
	}
	gen = max(gen, least)
	p := &Pending{s: s, gen: gen, tok: tok, dir: s.path(fmt.Sprintf("%s%d.%d", pendingPrefix, gen, tok))}
	if err := s.fs.Mkdir(p.dir); err != nil {
		return nil, WriteError(p.dir, err)
	}
	s.pending = p
	return p, nil
}

// Dir returns the directory to write the image to.
func (p *Pending) Dir() string { return p.dir }

// Generation returns the number that the image will have.
func (p *Pending) Generation() uint32 { return p.gen }

// Publish makes the image a generation, durably. It must be finished. After an
// error the image is not published, or not known to be durable; the earlier
// generations are what they were, and Abort is still due.
func (p *Pending) Publish() error {
	r, err := image.Open(p.dir)
	if err != nil {
		if stale := p.s.checkToken(p.tok); stale != nil {
			return stale // moved away by a newer incarnation: Take
		}
		return fmt.Errorf("publish: %w", err)
	}
	r.Close()
	if err := p.s.checkToken(p.tok); err != nil {
		return err
	}
	if err := p.s.fs.Sync(p.dir); err != nil {
		return p.stale(WriteError(p.dir, err))
	}
	final := p.s.path(generationName(p.gen))
	if err := p.s.fs.RenameDir(p.dir, final); err != nil {
		return p.stale(WriteError(final, err))
	}
	if err := p.s.fs.Sync(p.s.dir); err != nil {
		return WriteError(p.s.dir, err)
	}
	p.s.end(p)
	return nil
}

// stale explains an error by a newer incarnation, where there is one.
func (p *Pending) stale(err error) error {
	if stale := p.s.checkToken(p.tok); errors.Is(stale, ErrStale) {
		return stale
	}
	return err
}

// Abort removes the image. After Publish it does nothing.
func (p *Pending) Abort() error {
	if !p.s.end(p) {
		return nil
	}
	return p.s.discard(p.dir)
}

// end tells whether p was still to be ended.
func (s *Store) end(p *Pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending != p {
		return false
	}
	s.pending = nil
	return true
}

// removeLeftovers removes what crashed writers and removers have left.
func (s *Store) removeLeftovers() error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, trashPrefix):
			err = s.removeTree(s.path(name))
		case strings.HasPrefix(name, pendingPrefix), strings.HasPrefix(name, tempPrefix):
			err = s.discard(s.path(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// discard renames something away before it removes it, so that nobody ever
// sees, or publishes, a part of it.
func (s *Store) discard(path string) error {
	for i := 0; ; i++ {
		trash := s.path(fmt.Sprintf("%s%s.%d", trashPrefix, strings.TrimLeft(path[len(s.dir)+1:], "."), i))
		err := s.fs.RenameDir(path, trash)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return WriteError(path, err)
		}
		return s.removeTree(trash)
	}
}

func (s *Store) removeTree(path string) error {
	if err := s.fs.RemoveAll(path); err != nil {
		return WriteError(path, err)
	}
	return nil
}
