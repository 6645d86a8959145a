// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/plugin"
)

// pack makes an image of what the provider has written to dir, by moving it.
func (j *job) pack(ctx context.Context, p plugin.Provider, dir string, o engine.CheckpointOptions) (int64, error) {
	d, err := p.Describe(ctx)
	if err != nil {
		return 0, monitorError(err)
	}
	w, err := image.CreateForeign(o.Dir, slices.Contains(d.Capabilities, plugin.CanVerify))
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	foreign := &imagepb.Foreign{Provider: j.c.cfg.known(), Version: d.Name + " " + d.Version}
	if err := take(w, foreign, dir); err != nil {
		return 0, err
	}
	if len(foreign.Files) == 0 {
		return 0, monitorError(plugin.Errorf(plugin.Broken, "tell the author of the plugin", "provider %s has written no image", j.c.cfg.Name))
	}
	meta := o.Meta
	meta.Foreign, meta.CreatedUnixNs = foreign, time.Now().UnixNano()
	if meta.Host, err = host.Describe(); err != nil {
		return 0, err
	}
	if err := w.Finish(meta); err != nil {
		return 0, err
	}
	return w.Written(), nil
}

// take moves the files of a directory into an image.
func take(w *image.Writer, f *imagepb.Foreign, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		one := &imagepb.ForeignFile{Path: name, Mode: uint32(info.Mode().Perm()), Directory: d.IsDir()}
		switch {
		case d.IsDir():
		case !info.Mode().IsRegular():
			return monitorError(plugin.Errorf(plugin.Broken, "tell the author of the plugin", "provider %s has written %s, which is no ordinary file", f.Provider, name))
		default:
			one.Number = uint32(len(f.Files))
			if err := w.Take(strconv.Itoa(int(one.Number)), path); err != nil {
				return err
			}
		}
		f.Files = append(f.Files, one)
		return nil
	})
}

// unpack gives a provider the files of an image again in dir, without a copy where
// the file system has hard links. Every byte is checked, unless the provider does so.
func (c Config) unpack(ctx context.Context, from, dir string, progress func(engine.Progress)) error {
	r, err := image.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	f := r.Meta().GetForeign()
	switch {
	case f == nil:
		return monitor.Fail(monitor.ExitCannot, "leave --provider out", "image %s was made by esky itself, not by provider %s", from, c.Name)
	case f.Provider != c.known():
		return monitor.Fail(monitor.ExitCannot, "resume it with --provider "+f.Provider, "image %s was made by provider %s, not by %s", from, f.Provider, c.Name)
	}
	if !r.ProviderChecks() {
		if err := r.Verify(ctx, func(done, total int64) { progress(engine.Progress{Phase: "verify", Done: done, Total: total}) }); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, one := range f.Files {
		if !filepath.IsLocal(one.Path) {
			return fmt.Errorf("image %s has a file %q", from, one.Path)
		}
		if err := putBack(one, filepath.Join(from, "files", strconv.Itoa(int(one.Number))), filepath.Join(dir, one.Path)); err != nil {
			return fmt.Errorf("unpack image %s: %w", from, err)
		}
	}
	return nil
}

func putBack(f *imagepb.ForeignFile, from, to string) error {
	if f.Directory {
		return os.Mkdir(to, 0o700)
	}
	err := os.Link(from, to)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EMLINK) {
		return copyFile(from, to)
	}
	return err
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// Verify has an image's provider verify it.
func Verify(ctx context.Context, c Config, from string) error {
	dir, err := os.MkdirTemp(filepath.Dir(from), ".temp-provider-") // on the same file system
	if err != nil {
		return fmt.Errorf("make a directory for the provider: %w", err)
	}
	defer os.RemoveAll(dir)
	unpacked := filepath.Join(dir, "image")
	if err := c.unpack(ctx, from, unpacked, func(engine.Progress) {}); err != nil {
		return err
	}
	conn := newConnection(c, nil)
	defer conn.close()
	p, err := conn.provider(ctx)
	if err == nil {
		_, err = p.VerifyImage(ctx, unpacked)
	}
	return monitorError(named(err, unpacked, from))
}

// named makes an error of a provider speak of the image as the user knows it.
func named(err error, dir, image string) error {
	var e *plugin.Error
	if errors.As(err, &e) {
		e.Text = strings.ReplaceAll(e.Text, dir, image)
	}
	return err
}
