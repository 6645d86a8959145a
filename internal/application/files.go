// SPDX-License-Identifier: Apache-2.0

package application

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/plugin"
)

// stamp tells a file from what it was.
type stamp struct {
	inode, size, changed int64
}

func stampOf(fi fs.FileInfo) stamp {
	s := stamp{size: fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		s.inode, s.changed = int64(st.Ino), st.Ctim.Nano()
	}
	return s
}

// found are the files that done.file may mean.
func (t *trade) found() (map[string]stamp, error) {
	names, err := filepath.Glob(t.Config.Done.File)
	if err != nil {
		return nil, err
	}
	all := map[string]stamp{}
	for _, name := range names {
		if fi, err := os.Stat(name); err == nil {
			all[name] = stampOf(fi)
		}
	}
	return all, nil
}

// there tells whether a checkpoint has been made since ask, and names its file.
func (s *saving) there() (name string, there bool, err error) {
	if !s.tee.matched() {
		return "", false, nil
	}
	if s.Config.Done.File == "" {
		return "", true, nil
	}
	all, err := s.found()
	if err != nil {
		return "", false, err
	}
	var last int64
	for n, now := range all {
		if now != s.before[n] && now.changed > last {
			name, last = n, now.changed
		}
	}
	if name == "" || s.beingWritten(name) {
		return "", false, nil
	}
	return name, true, nil
}

// beingWritten tells whether a process of the job has a file open to write to it: a
// file that is not renamed to its name is there before it is complete.
func (t *trade) beingWritten(name string) bool {
	want, err := os.Stat(name)
	if err != nil || want.IsDir() {
		return false
	}
	pids, _ := freeze.Descendants(os.Getpid())
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/", pid)
		fds, _ := os.ReadDir(dir + "fd") // not readable: of a program that hides itself nothing is known
		for _, fd := range fds {
			if fi, err := os.Stat(dir + "fd/" + fd.Name()); err == nil && os.SameFile(fi, want) && writes(dir+"fdinfo/"+fd.Name()) {
				return true
			}
		}
	}
	return false
}

// writes reads the access mode of a descriptor (proc_pid_fdinfo(5): octal).
func writes(fdinfo string) bool {
	b, _ := os.ReadFile(fdinfo)
	_, text, _ := strings.Cut(string(b), "flags:")
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	flags, err := strconv.ParseUint(text, 8, 32)
	return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
}

// errMoving says that a file has changed while it was copied.
var errMoving = errors.New("changes while it is copied")

// save copies a checkpoint and completes the image.
func (s *saving) save(name string) (*manifest, error) {
	hostname, _ := os.Hostname()
	m := &manifest{
		Format: manifestFormat, Host: hostname, Generation: s.Options.Generation, Command: s.Command, Dir: s.Dir, Config: s.Config, File: name,
	}
	patterns := s.Config.Files
	if name != "" {
		patterns = append([]string{name}, patterns...)
	}
	names, err := expand(patterns)
	if err != nil {
		return nil, err
	}
	into := filepath.Join(s.Options.Dir, "files")
	if err := os.RemoveAll(into); err != nil { // of a try before
		return nil, err
	}
	for i, n := range names {
		s.Progress(plugin.Progress{Phase: fmt.Sprintf("copy %d of %d files", i+1, len(names)), Done: m.bytes()})
		f, err := s.copy(n, filepath.Join(into, n))
		if err != nil {
			return nil, fmt.Errorf("save %s: %w", n, err)
		}
		m.Files = append(m.Files, f)
	}
	if name != "" && s.beingWritten(name) {
		return nil, fmt.Errorf("save %s: %w", name, errMoving)
	}
	m.Created, m.Took = time.Now(), time.Since(s.Began)
	if s.Options.Stop || s.Config.leaves() {
		m.Pause = time.Since(s.stood)
	}
	return m, m.write(s.Options.Dir)
}

// expand lists the regular files that patterns mean, below directories too. One that
// means none is an error: what is missing is noticed now, not after a crash.
func expand(patterns []string) (names []string, err error) {
	seen := map[string]bool{}
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		for _, top := range matches {
			err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && !seen[path] {
					seen[path] = true
					names = append(names, path)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		if len(matches) == 0 {
			return nil, plugin.Errorf(plugin.Refused, "correct files in the configuration", "no file matches %q", p)
		}
	}
	return names, nil
}

// copy puts one file into the image.
func (s *saving) copy(from, to string) (savedFile, error) {
	fi, err := os.Stat(from)
	if err != nil {
		return savedFile{}, err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return savedFile{}, err
	}
	f := savedFile{Path: from, Size: fi.Size(), Mode: fi.Mode().Perm(), Time: fi.ModTime()}
	if s.Config.Link {
		f.Sum, err = link(s.Ctx, from, to)
	} else {
		f.Sum, err = copyFile(s.Ctx, from, to, 0o600)
	}
	if err != nil {
		return f, err
	}
	now, err := os.Stat(from)
	want := stampOf(fi)
	if err == nil && s.Config.Link {
		want.changed = stampOf(now).changed // the link itself has changed it
	}
	if err != nil || stampOf(now) != want || !now.ModTime().Equal(fi.ModTime()) {
		return f, errMoving
	}
	return f, nil
}

// link takes a file into the image without a copy, where the file system can.
func link(ctx context.Context, from, to string) (string, error) {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return "", err
	}
	if os.Link(from, to) != nil { // another file system, or one without links
		return copyFile(ctx, from, to, 0o600)
	}
	sum, _, err := sumOf(ctx, to)
	return sum, err
}
