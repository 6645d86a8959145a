// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/image"
)

const generationPrefix = "gen-"

func generationName(n uint32) string { return fmt.Sprintf("%s%06d", generationPrefix, n) }

func parseGeneration(name string) (uint32, bool) {
	d, ok := strings.CutPrefix(name, generationPrefix)
	n, err := strconv.ParseUint(d, 10, 32)
	return uint32(n), ok && err == nil && n > 0 && generationName(uint32(n)) == name
}

// Generation is a published image. That it is there does not say that it is
// still good: image.Open and Verify do.
type Generation struct {
	Number uint32
	Dir    string
	Time   time.Time // when it was finished
	Size   int64     // bytes of its files
}

// Generations returns the published images, newest first.
func (s *Store) Generations() ([]Generation, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}
	var gens []Generation
	for _, n := range numbers {
		g, err := describe(n, s.path(generationName(n)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		gens = append(gens, g)
	}
	return gens, nil
}

// numbers returns the generation numbers in use, newest first.
func (s *Store) numbers() ([]uint32, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := parseGeneration(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

func (s *Store) nextGeneration() (uint32, error) {
	numbers, err := s.numbers()
	if err != nil || len(numbers) == 0 {
		return 1, err
	}
	if numbers[0]+1 == 0 {
		return 0, fmt.Errorf("store %s: no generation numbers left", s.dir)
	}
	return numbers[0] + 1, nil
}

func describe(n uint32, dir string) (Generation, error) {
	g := Generation{Number: n, Dir: dir}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if fi.Mode().IsRegular() {
			g.Size += fi.Size()
		}
		// The newest file is the manifest, which is written last.
		if fi.Mode().IsRegular() && fi.ModTime().After(g.Time) {
			g.Time = fi.ModTime()
		}
		return nil
	})
	if err != nil {
		return g, err
	}
	if g.Time.IsZero() {
		fi, err := os.Lstat(dir)
		if err != nil {
			return g, err
		}
		g.Time = fi.ModTime()
	}
	return g, nil
}

// Prune removes all generations older than the newest keep good ones (at least
// one). Good means that image.Open finds nothing wrong. Those that are not good
// do not count, and stay until enough newer ones are, for they may be of use to
// somebody: to another version of this program, or to a person.
func (s *Store) Prune(keep int) error {
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	good := 0
	for _, n := range numbers {
		dir := s.path(generationName(n))
		if good >= max(keep, 1) {
			if err := s.discard(dir); err != nil {
				return err
			}
			continue
		}
		if r, err := image.Open(dir); err == nil {
			r.Close()
			good++
		}
	}
	return nil
}

// RemoveImages removes every generation, oldest first, and what is pending.
func (s *Store) RemoveImages() error {
	numbers, err := s.numbers()
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(numbers) {
		if err := s.discard(s.path(generationName(n))); err != nil {
			return err
		}
	}
	return s.removeLeftovers()
}
