// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Note says where a job has a near place, for whoever drains it after the job's
// monitor has been killed.
type Note struct {
	Store string // directory of all jobs
	Job   string
	Near  string // what Near was called with
	Keep  int    // generations
}

// NoteSuffix is that of the files that notes are in.
const NoteSuffix = ".near"

// Write leaves the note in a file. A crash that loses it loses the near place as
// well, or leaves one that the job's next run here finds by itself.
func (n Note) Write(path string) error {
	for _, dir := range []*string{&n.Store, &n.Near} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return osFS{}.WriteNew(path, text)
}

// ReadNote understands what Write wrote.
func ReadNote(text []byte) (Note, error) {
	var n Note
	if err := json.Unmarshal(text, &n); err != nil {
		return n, fmt.Errorf("note of a near place: %w", err)
	}
	if !strings.HasPrefix(n.Store, "/") || !strings.HasPrefix(n.Near, "/") {
		return n, errors.New("note of a near place: it names no absolute paths")
	}
	return n, nil
}

// Drain brings what is in the near place to the store, if nobody has run the job
// since, and returns the number of the image, 0 if there was nothing to bring. Then
// the place is removed; so it is when what is in it is of no use any more (ErrStale,
// ErrNoJob). A job that somebody runs is ErrLocked.
func (n Note) Drain(ctx context.Context) (uint32, error) {
	s, near, unlock, err := n.open()
	if err != nil {
		return 0, err
	}
	defer unlock()
	number, err := near.Drain(ctx)
	switch {
	case errors.Is(err, ErrStale):
		return 0, errors.Join(err, near.Discard())
	case err != nil:
		return 0, err
	}
	return number, errors.Join(s.Prune(n.Keep), near.Discard())
}

// Stage brings the store's newest image to the near place before the job is run.
func (n Note) Stage(ctx context.Context) (uint32, error) {
	_, near, unlock, err := n.open()
	if err != nil {
		return 0, err
	}
	defer unlock()
	return near.Stage(ctx)
}

func (n Note) open() (*Store, *Near, func(), error) {
	s, err := newStore(osFS{}, n.Store, n.Job)
	if err != nil {
		return nil, nil, nil, err
	}
	near, err := s.Near(n.Near)
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err := Existing(n.Store, n.Job); errors.Is(err, ErrNoJob) {
		return nil, nil, nil, errors.Join(err, near.Discard())
	} else if err != nil {
		return nil, nil, nil, err
	}
	lock, err := s.TryLock()
	if err != nil {
		return nil, nil, nil, err
	}
	return s, near, func() { lock.Close() }, nil
}
