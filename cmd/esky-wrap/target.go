// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/store"
)

// locate looks a job of the command line up in the store.
func locate(c *cli.Context, job string) (*monitor.Place, error) {
	if err := checkName(job); err != nil {
		return nil, err
	}
	return monitor.Locate(c.String("store"), job)
}

// places looks several jobs up; without names, all of the store.
func places(c *cli.Context) ([]*monitor.Place, error) {
	jobs, err := names(c, 0, -1)
	if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		if jobs, err = store.List(c.String("store")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	var all []*monitor.Place
	for _, job := range jobs {
		p, err := locate(c, job)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// target is an image that a command line names: by its directory, or by its job
// and perhaps its generation.
type target struct {
	job        string
	generation uint32
	dir        string
	time       time.Time
	bytes      int64
}

// targets resolves a name to its images, newest first. A name with a slash is
// an image's directory; others are jobs.
func targets(c *cli.Context, name string) ([]target, error) {
	if strings.Contains(name, "/") {
		return imageAt(name)
	}
	p, err := locate(c, name)
	if err != nil {
		return nil, err
	}
	gens, err := p.Images()
	if err != nil {
		return nil, err
	}
	var only uint32
	if c.IsSet("generation") {
		if only, err = generation(c); err != nil {
			return nil, err
		}
	}
	var all []target
	for _, g := range gens {
		if only == 0 || g.Number == only {
			all = append(all, target{name, g.Number, g.Dir, g.Time, g.Size})
		}
	}
	if len(all) == 0 {
		return nil, noImage(p, only)
	}
	return all, nil
}

func imageAt(dir string) ([]target, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, monitor.Fail(monitor.ExitNotFound, "", "no such image: %w", err)
	}
	return []target{{job: filepath.Base(filepath.Dir(dir)), dir: dir}}, nil
}

func noImage(p *monitor.Place, only uint32) error {
	switch {
	case only != 0:
		return monitor.Fail(monitor.ExitNotFound, "`esky-wrap list` shows what there is", "%s has no image %d", p.Job, only)
	case p.Done != nil:
		return monitor.Fail(monitor.ExitNotFound, "", "%s has no image: it has ended, with status %d", p.Job, p.Done.Status)
	}
	return monitor.Fail(monitor.ExitNotFound, "", "%s has no image yet", p.Job)
}

func generation(c *cli.Context) (uint32, error) {
	n := c.Uint("generation")
	if n < 1 || n > math.MaxUint32 {
		return 0, bad("generation", "%d is not the number of an image", n)
	}
	return uint32(n), nil
}
