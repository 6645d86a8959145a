// SPDX-License-Identifier: Apache-2.0

package application

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// manifestName is the file without which nothing is an image: it is written last. It
// holds a manifest, and in its last line the sum of what is before.
const manifestName = "esky-application"

const manifestFormat = 1

// manifest is what an image knows of itself. The files lie below "files".
type manifest struct {
	Format     int           `json:"format"`
	Created    time.Time     `json:"created"`
	Took       time.Duration `json:"took"`
	Pause      time.Duration `json:"pause"`
	Host       string        `json:"host"`
	Generation uint64        `json:"generation"`
	Command    []string      `json:"command"` // as it was started first
	Dir        string        `json:"dir"`
	Config     Config        `json:"config"`
	File       string        `json:"file"` // that done.file has found
	Files      []savedFile   `json:"files"`
}

type savedFile struct {
	Path string      `json:"path"` // below the job's directory
	Size int64       `json:"size"`
	Mode fs.FileMode `json:"mode"`
	Time time.Time   `json:"time"`
	Sum  string      `json:"sha256"`
}

func (m *manifest) bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// write completes an image.
func (m *manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	sum := sha256.Sum256(b)
	b = append(append(b, hex.EncodeToString(sum[:])...), '\n')
	return keeper.WriteFile(filepath.Join(dir, manifestName), b)
}

// readManifest reads what an image says of itself.
func readManifest(dir string) (*manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, plugin.Errorf(plugin.NotFound, "", "there is no complete image in %s", dir)
	}
	if err != nil {
		return nil, err
	}
	body, last, _ := cutLast(b)
	sum := sha256.Sum256(body)
	m := &manifest{}
	switch {
	case string(last) != hex.EncodeToString(sum[:]):
		return nil, damaged("%s is not what was written", filepath.Join(dir, manifestName))
	case json.Unmarshal(body, m) != nil:
		return nil, damaged("%s is not to be understood", filepath.Join(dir, manifestName))
	case m.Format != manifestFormat:
		return nil, plugin.Errorf(plugin.Host, "use the version of esky that made it", "image %s has format %d, which this version does not know", dir, m.Format)
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Path) {
			return nil, damaged("image %s has a file %q", dir, f.Path)
		}
	}
	return m, nil
}

// cutLast splits off the last line.
func cutLast(b []byte) (body, last []byte, ok bool) {
	b, ok = bytes.CutSuffix(b, []byte("\n"))
	i := bytes.LastIndexByte(b, '\n') + 1
	return b[:i], b[i:], ok
}

func damaged(format string, args ...any) error {
	return plugin.Errorf(plugin.Damaged, "use an older one", format, args...)
}

// verify reads all files of an image.
func (m *manifest) verify(ctx context.Context, dir string) error {
	for _, f := range m.Files {
		path := filepath.Join(dir, "files", f.Path)
		sum, size, err := sumOf(ctx, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return damaged("%s is missing", path)
		case err != nil:
			return err
		case size != f.Size || sum != f.Sum:
			return damaged("%s is not what was written", path)
		}
	}
	return nil
}

func sumOf(ctx context.Context, path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, reader{ctx, f})
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// putBack makes the program's files what they were. One that is so already is not
// touched.
func (m *manifest) putBack(ctx context.Context, dir, files string) (notes []string, err error) {
	var changed []savedFile
	for _, f := range m.Files {
		sum, _, err := sumOf(ctx, filepath.Join(m.Dir, f.Path))
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case err == nil && sum == f.Sum:
		case err == nil && files == "strict":
			return nil, plugin.Errorf(plugin.Changed, "put it back, or resume with files rollback or accept", "%s has changed since the checkpoint", filepath.Join(m.Dir, f.Path))
		case err == nil && files == "accept":
			notes = append(notes, fmt.Sprintf("%s has changed since the checkpoint and is left as it is", f.Path))
		default:
			changed = append(changed, f)
		}
	}
	for _, f := range changed {
		if err := f.putBack(ctx, filepath.Join(dir, "files", f.Path), filepath.Join(m.Dir, f.Path)); err != nil {
			return nil, fmt.Errorf("put back %s: %w", f.Path, err)
		}
		notes = append(notes, f.Path+" was put back to what it was at the checkpoint")
	}
	return notes, nil
}

func (f savedFile) putBack(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(to), ".esky-"+filepath.Base(to))
	defer os.Remove(tmp)
	if _, err := copyFile(ctx, from, tmp, f.Mode); err != nil {
		return err
	}
	if err := os.Chtimes(tmp, time.Time{}, f.Time); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// copyFile copies to a new file, which is on the disk when it returns the sum.
func copyFile(ctx context.Context, from, to string, mode fs.FileMode) (string, error) {
	r, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm())
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(w, h), reader{ctx, r})
	err = errors.Join(err, w.Chmod(mode.Perm()), w.Sync(), w.Close())
	return hex.EncodeToString(h.Sum(nil)), err
}

// plugin is an image as hosts know it.
func (m *manifest) plugin(dir string) plugin.Image {
	return plugin.Image{
		Dir: dir, Created: m.Created, Bytes: m.bytes(), Pause: m.Pause, Took: m.Took, Command: m.Command,
		About: map[string]string{"host": m.Host, "directory": m.Dir, "files": fmt.Sprint(len(m.Files)), "checkpoint": m.File},
	}
}
