// SPDX-License-Identifier: Apache-2.0

package jobfiles

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// comparison of a file with its copy.
type comparison int

const (
	equal     comparison = iota
	longer               // it begins like the copy
	different            //
)

// pieceSize is how much of a file is in memory at a time.
const pieceSize = 1 << 20

// compare reads all of the copy, which checks it, too.
func (j *Job) compare(f *imagepb.JobFile) (comparison, error) {
	copied, err := j.o.Open(f.Copy)
	if err != nil {
		return 0, err
	}
	defer copied.Close()
	file, err := os.Open(f.Path)
	if err != nil {
		return 0, fmt.Errorf("compare %s with its copy: %w", f.Path, err)
	}
	defer file.Close()
	want, have := make([]byte, pieceSize), make([]byte, pieceSize)
	how := equal
	for {
		n, err := io.ReadFull(copied, want)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
		if how == equal {
			m, readErr := io.ReadFull(file, have[:n])
			if readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, io.ErrUnexpectedEOF) {
				return 0, fmt.Errorf("compare %s with its copy: %w", f.Path, readErr)
			}
			if m < n || !bytes.Equal(want[:n], have[:n]) {
				how = different
			}
		}
		if err != nil {
			break
		}
	}
	if how == equal {
		if n, _ := file.Read(have[:1]); n > 0 {
			how = longer
		}
	}
	return how, nil
}

// findStrangers plans to move away what was made in the job's own directories
// since: the job will make it again, and may insist on being the first.
func (j *Job) findStrangers() error {
	known := map[string]bool{}
	for _, f := range j.o.Files {
		known[f.Path] = true
	}
	for _, root := range j.o.Scratch {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root || known[path] {
				return nil // what cannot be looked at is no file of the job
			}
			if !d.Type().IsRegular() {
				return nil
			}
			if j.o.Policy == Strict {
				j.refuse("%s was made since the checkpoint", path)
				return nil
			}
			j.plan(&imagepb.JobFile{Path: path}, j.moveAway)
			return nil
		})
		if err != nil {
			return fmt.Errorf("look through %s: %w", root, err)
		}
	}
	return nil
}
