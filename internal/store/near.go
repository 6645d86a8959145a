// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/esky-hpc/esky/internal/image"
)

// Near is a fast place on one host in front of a job's store. Images are written
// there first, in less time than the store would take, and are brought to the
// store afterwards: by the job's monitor, or, when that has been killed, by the
// scheduler's epilog.
//
// It is a Store itself, whose holder and token are copies of those of the
// incarnation that has written it. As long as the store has the same ones, nobody
// has run the job since, on whatever host, and the images are as good as the
// store's own. Once somebody has, they are of a past that did not happen: the job
// has gone on from an older image. Then they are not believed in any more.
type Near struct {
	Store
	far *Store
}

// Near opens the job's place below dir, and makes it if it is not there.
func (s *Store) Near(dir string) (*Near, error) {
	return s.near(Open(dir, s.nearKey()))
}

// ExistingNear opens it only if it is there (ErrNoJob).
func (s *Store) ExistingNear(dir string) (*Near, error) {
	return s.near(Existing(dir, s.nearKey()))
}

func (s *Store) near(near *Store, err error) (*Near, error) {
	if err != nil {
		return nil, err
	}
	return &Near{Store: Store{dir: near.dir, fs: near.fs}, far: s}, nil
}

// nearKey tells jobs of one name in different stores apart.
func (s *Store) nearKey() string {
	sum := sha256.Sum256([]byte(s.dir))
	key := filepath.Base(s.dir)
	return key[:min(len(key), 150)] + "-" + hex.EncodeToString(sum[:5])
}

// Believed tells whether nobody has run the job since the images were written.
func (n *Near) Believed() (bool, error) {
	far, err := n.far.Holder()
	if err != nil || far == nil {
		return false, err
	}
	near, err := n.Holder()
	if err != nil || near == nil {
		return false, err
	}
	newest, err := n.far.Current()
	if err != nil {
		return false, err
	}
	return near.Token == far.Token && far.Token == newest && near.Started.Equal(far.Started) && near.Host == far.Host, nil
}

// Follow hands the place over to an incarnation of the job. The images stay.
func (n *Near) Follow(h Holder) error {
	path := n.path(tokenName(h.Token))
	if err := n.fs.WriteNew(path, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return WriteError(path, err)
	}
	tokens, err := n.tokens()
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t != h.Token {
			if err := n.fs.Remove(n.path(tokenName(t))); err != nil {
				return WriteError(n.path(tokenName(t)), err)
			}
		}
	}
	if err := n.removeLeftovers(); err != nil {
		return err
	}
	return n.SetHolder(h)
}

// Begin makes room for an image that is newer than all of the store's, too.
func (n *Near) Begin(tok Token) (*Pending, error) {
	if err := n.far.checkToken(tok); err != nil {
		return nil, err
	}
	next, err := n.far.nextGeneration()
	if err != nil {
		return nil, err
	}
	return n.Store.begin(tok, next)
}

// BeginFar makes room in the store for an image that is newer than all here, for
// when this place is full.
func (n *Near) BeginFar(tok Token) (*Pending, error) {
	next, err := n.nextGeneration()
	if err != nil {
		return nil, err
	}
	return n.far.begin(tok, next)
}

// Drain brings the newest good image to the store and returns its number, 0 if
// there was nothing to bring. ErrStale says that somebody has run the job since.
//
// Precondition: the caller has the job's lock.
func (n *Near) Drain(ctx context.Context) (uint32, error) {
	ok, err := n.Believed()
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%s: %w", n.dir, ErrStale)
	}
	tok, err := n.Current()
	if err != nil {
		return 0, err
	}
	return n.far.fetch(ctx, &n.Store, tok)
}

// Discard removes the place, with all that is in it: the job may never come back to
// this host.
func (n *Near) Discard() error {
	believed, err := n.Believed()
	if err == nil && believed {
		err = n.recordDiscarded()
	}
	if err := n.fs.RemoveAll(n.dir); err != nil {
		return WriteError(n.dir, err)
	}
	return err
}

// recordDiscarded tells those who look at the store that it has all images.
func (n *Near) recordDiscarded() error {
	h, err := n.far.Holder()
	if err != nil || h == nil || h.Local == "" {
		return err
	}
	h.Local = ""
	return n.far.SetHolder(*h)
}

// Stage brings the store's newest good image here, for a faster resume.
//
// Precondition: the caller has the job's lock.
func (n *Near) Stage(ctx context.Context) (uint32, error) {
	h, err := n.far.Holder()
	if err != nil || h == nil {
		return 0, err
	}
	ok, err := n.Believed()
	if err == nil && !ok {
		err = n.RemoveImages()
	}
	if err == nil && !ok {
		err = n.Follow(*h)
	}
	if err != nil {
		return 0, err
	}
	return n.fetch(ctx, n.far, h.Token)
}

// fetch copies the newest good image of another store, under its number, unless
// this one has it or a newer one.
func (s *Store) fetch(ctx context.Context, from *Store, tok Token) (uint32, error) {
	next, err := s.nextGeneration()
	if err != nil {
		return 0, err
	}
	theirs, err := from.numbers()
	if err != nil {
		return 0, err
	}
	for _, number := range theirs {
		if number < next {
			return 0, nil
		}
		err := s.fetchOne(ctx, from.path(generationName(number)), number, tok)
		if errors.As(err, new(*image.DamagedError)) {
			continue // an older one may be good
		}
		return number, err
	}
	return 0, nil
}

// fetchOne counts only what has arrived: each byte of the copy is checked.
func (s *Store) fetchOne(ctx context.Context, dir string, number uint32, tok Token) error {
	p, err := s.begin(tok, number)
	if err != nil {
		return err
	}
	err = s.copyTree(ctx, dir, p.dir)
	if err == nil {
		err = verify(ctx, p.dir, dir)
	}
	if err == nil {
		err = p.Publish()
	}
	if err != nil {
		return errors.Join(err, p.Abort())
	}
	return nil
}

// verify reads all of a copy, and the original too where there are no checksums to
// compare it with.
func verify(ctx context.Context, dir, original string) error {
	r, err := image.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.ProviderChecks() {
		return sameFiles(ctx, dir, original)
	}
	return r.Verify(ctx, func(int64, int64) {})
}

func sameFiles(ctx context.Context, dir, original string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		same, err := sameFile(ctx, path, filepath.Join(original, name))
		if err == nil && !same {
			err = &image.DamagedError{Dir: dir, What: name, Err: fmt.Errorf("it is not what is in %s", original)}
		}
		return err
	})
}

func sameFile(ctx context.Context, a, b string) (bool, error) {
	var sums [2][sha256.Size]byte
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return false, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return false, err
		}
		h.Sum(sums[i][:0])
	}
	return sums[0] == sums[1], nil
}

// copyTree fills the empty directory to.
func (s *Store) copyTree(ctx context.Context, from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	for _, e := range entries {
		src, dst := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		switch {
		case e.IsDir():
			err = s.fs.Mkdir(dst)
			if err == nil {
				err = s.copyTree(ctx, src, dst)
			}
		case e.Type().IsRegular():
			err = s.fs.Copy(ctx, src, dst)
		default:
			err = fmt.Errorf("copy image: %s is neither a file nor a directory", src)
		}
		if err != nil {
			return WriteError(dst, err)
		}
	}
	return WriteError(to, s.fs.Sync(to))
}
