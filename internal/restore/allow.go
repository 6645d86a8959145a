// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
)

// allow lets the job's files be opened as the job has them open, whatever their
// modes say now, until deny.
func (r *restorer) allow() error {
	for path, need := range r.needs() {
		deny, err := jobfiles.Allow(path, need)
		if err != nil {
			return err
		}
		r.denials = append(r.denials, deny)
	}
	return nil
}

func (r *restorer) deny() error {
	var err error
	for _, deny := range r.denials {
		err = errors.Join(err, deny())
	}
	r.denials = nil
	return err
}

// needs are the files that will be opened by their paths, and what for.
func (r *restorer) needs() map[string]uint32 {
	all := map[string]uint32{}
	for _, f := range r.meta.OpenFiles {
		switch f.Kind {
		case imagepb.OpenFile_REGULAR, imagepb.OpenFile_DIRECTORY:
			all[f.Path] |= jobfiles.Need(int(f.Flags))
		}
	}
	for _, f := range r.meta.Pipes {
		if f.Path != "" {
			all[f.Path] = unix.R_OK | unix.W_OK
		}
	}
	for _, f := range r.meta.JobFiles {
		switch {
		case f.Written:
			all[f.Path] |= unix.R_OK | unix.W_OK // see jobfiles' cut and rewrite
		case f.Copy != "":
			all[f.Path] |= unix.R_OK
		}
	}
	for _, p := range r.meta.Processes {
		for _, v := range p.Vmas {
			switch {
			case v.Kind != imagepb.Vma_FILE:
			case v.Shared && hasFlag(v, "mw"):
				all[v.Path] |= unix.R_OK | unix.W_OK
			default:
				all[v.Path] |= unix.R_OK
			}
		}
	}
	return all
}
