// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// PlainImages are images that are just files: a provider embeds it, and ends each
// Checkpoint with Seal. It has the four calls of Provider that are about images.
type PlainImages struct{}

// sealFile has the checksums of all other files of an image; without it there is none.
const sealFile = "SEAL"

// CopyFiles copies files into a directory.
func CopyFiles(dir string, files ...string) error {
	for _, path := range files {
		b, err := os.Open(path)
		if err != nil {
			return err
		}
		defer b.Close()
		to, err := os.OpenFile(filepath.Join(dir, filepath.Base(path)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(to, b)
		if err = errors.Join(err, to.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Seal makes what lies in a directory, and the files that it copies there, an image:
// all of it is made durable, and its checksums are written down.
func Seal(dir string, files ...string) (Image, error) {
	began := time.Now()
	var lines strings.Builder
	i := Image{Dir: dir, Created: began}
	if err := CopyFiles(dir, files...); err != nil {
		return i, err
	}
	err := eachFile(dir, func(path, name string) error {
		sum, n, err := sumOf(path, true)
		i.Bytes += n
		fmt.Fprintf(&lines, "%s  %s\n", sum, name)
		return err
	})
	if err == nil && i.Bytes == 0 {
		err = Errorf(Internal, "", "there is nothing to save in %s", dir)
	}
	if err != nil {
		return i, err
	}
	tmp := filepath.Join(dir, "."+sealFile)
	if err := os.WriteFile(tmp, []byte(lines.String()), 0o600); err != nil {
		return i, err
	}
	if _, _, err := sumOf(tmp, true); err != nil {
		return i, err
	}
	i.Took = time.Since(began)
	return i, os.Rename(tmp, filepath.Join(dir, sealFile))
}

// eachFile visits the files of an image in order.
func eachFile(dir string, visit func(path, name string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || d.IsDir() || name == sealFile:
			return err
		case !d.Type().IsRegular() && d.Type()&fs.ModeSymlink == 0: // a host may link files to where they are
			return Errorf(Damaged, "", "image %s has %s, which is no file", dir, name)
		}
		return visit(path, name)
	})
}

func sumOf(path string, sync bool) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.Copy(h, f); err == nil && sync {
		err = f.Sync()
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// DescribeImage implements Provider.
func (PlainImages) DescribeImage(_ context.Context, dir string) (Image, error) {
	fi, err := os.Stat(filepath.Join(dir, sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Image{}, Errorf(NotFound, "", "there is no complete image in %s", dir)
	}
	if err != nil {
		return Image{}, err
	}
	i := Image{Dir: dir, Created: fi.ModTime()}
	return i, eachFile(dir, func(path, _ string) error {
		fi, err := os.Stat(path)
		if err == nil {
			i.Bytes += fi.Size()
		}
		return err
	})
}

// VerifyImage implements Provider. Resume should call it too.
func (p PlainImages) VerifyImage(ctx context.Context, dir string) (Image, error) {
	i, err := p.DescribeImage(ctx, dir)
	if err != nil {
		return i, err
	}
	seal, err := os.Open(filepath.Join(dir, sealFile))
	if err != nil {
		return i, err
	}
	defer seal.Close()
	want := map[string]string{}
	for lines := bufio.NewScanner(seal); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sum
	}
	err = eachFile(dir, func(path, name string) error {
		sum, _, err := sumOf(path, false)
		if err == nil && sum != want[name] {
			err = Errorf(Damaged, "", "image %s is damaged: the checksum of %s does not match", dir, name)
		}
		delete(want, name)
		return err
	})
	for name := range want {
		if err == nil {
			err = Errorf(Damaged, "", "image %s is damaged: %s is missing", dir, name)
		}
	}
	return i, err
}

// Images implements Provider.
func (p PlainImages) Images(ctx context.Context, dir string) ([]Image, error) {
	entries, err := os.ReadDir(dir)
	var all []Image
	for _, e := range entries {
		if i, err := p.DescribeImage(ctx, filepath.Join(dir, e.Name())); err == nil && e.Name()[0] != '.' {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b Image) int { return a.Created.Compare(b.Created) })
	return all, err
}

// RemoveImage implements Provider.
func (p PlainImages) RemoveImage(ctx context.Context, dir string) error {
	if _, err := p.DescribeImage(ctx, dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, sealFile)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
