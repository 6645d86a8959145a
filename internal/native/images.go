// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/plugin"
)

// Images implements plugin.Provider.
func (p *Provider) Images(_ context.Context, dir string) ([]plugin.Image, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, wrap(err)
	}
	var all []plugin.Image
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		if i, err := describe(path); err == nil {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b plugin.Image) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// DescribeImage implements plugin.Provider.
func (p *Provider) DescribeImage(_ context.Context, dir string) (plugin.Image, error) {
	return describe(dir)
}

func describe(dir string) (plugin.Image, error) {
	r, err := open(dir)
	if err != nil {
		return plugin.Image{}, err
	}
	defer r.Close()
	return imageOf(r), nil
}

// open tells an image that is damaged from what is none at all.
func open(dir string) (*image.Reader, error) {
	if _, err := os.Lstat(filepath.Join(dir, "manifest")); errors.Is(err, fs.ErrNotExist) {
		return nil, plugin.Errorf(plugin.NotFound, "", "there is no complete image in %s", dir)
	}
	r, err := image.Open(dir)
	return r, wrap(err)
}

func imageOf(r *image.Reader) plugin.Image {
	m := r.Meta()
	return plugin.Image{
		Dir: r.Dir(), Created: time.Unix(0, m.GetCreatedUnixNs()), Bytes: r.Size(), Pause: time.Duration(m.GetPauseNs()),
		Command: m.GetCommand(),
		About: map[string]string{
			"host": m.GetHost().GetHostname(), "kernel": m.GetHost().GetKernel(), "arch": m.GetHost().GetArch(),
			"esky": m.GetEskyVersion(), "generation": strconv.Itoa(int(m.GetGeneration())),
			"processes": strconv.Itoa(len(m.GetProcesses())),
		},
	}
}

// VerifyImage implements plugin.Provider.
func (p *Provider) VerifyImage(ctx context.Context, dir string) (plugin.Image, error) {
	r, err := open(dir)
	if err != nil {
		return plugin.Image{}, err
	}
	defer r.Close()
	if err := r.Verify(ctx, func(int64, int64) {}); err != nil {
		return plugin.Image{}, wrap(err)
	}
	return imageOf(r), nil
}

// RemoveImage implements plugin.Provider: the manifest, without which nothing is an
// image, goes first.
func (p *Provider) RemoveImage(_ context.Context, dir string) error {
	if err := os.Remove(filepath.Join(dir, "manifest")); errors.Is(err, fs.ErrNotExist) {
		return plugin.Errorf(plugin.NotFound, "", "there is no complete image in %s", dir)
	} else if err != nil {
		return wrap(err)
	}
	return wrap(os.RemoveAll(dir))
}
