// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// chdir goes to the working directory, in steps where the path is longer than a
// system call takes (PATH_MAX).
func (r *restorer) chdir(s *script, path string, removed uint64) error {
	if removed != 0 {
		var err error
		if path, err = r.removedDir(path, removed); err != nil {
			return err
		}
	}
	if path == "/" {
		return nil
	}
	for _, step := range steps(path) {
		s.add("chdir "+step, unix.SYS_CHDIR, s.string(step))
	}
	return nil
}

// steps cuts a path into pieces, each relative to the one before.
func steps(path string) []string {
	const most = 4000
	var all []string
	for len(path) > most {
		at := strings.LastIndexByte(path[:most], '/')
		all = append(all, path[:at])
		path = path[at+1:]
	}
	return append(all, path)
}

// removedDir makes a directory to stand for one that had no name any more, at its
// old place if that is free. It loses its name again before the job runs.
func (r *restorer) removedDir(path string, ino uint64) (string, error) {
	if made, ok := r.removed[ino]; ok {
		return made, nil
	}
	made := path
	if err := os.Mkdir(path, 0o700); err != nil {
		parent := filepath.Dir(path)
		for st, err := os.Stat(parent); (err != nil || !st.IsDir()) && parent != "/"; st, err = os.Stat(parent) {
			parent = filepath.Dir(parent)
		}
		if made, err = os.MkdirTemp(parent, ".esky-removed-*"); err != nil {
			made, err = os.MkdirTemp("", ".esky-removed-*")
		}
		if err != nil {
			return "", fmt.Errorf("make a directory in place of %s, which was removed: %w", path, err)
		}
	}
	if r.removed == nil {
		r.removed = map[uint64]string{}
	}
	r.removed[ino] = made
	return made, nil
}

// removeDirs takes the names of these directories away again.
func (r *restorer) removeDirs() error {
	for _, path := range r.removed {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	r.removed = nil
	return nil
}

// isLate says that a file can be opened only when all processes are there: it is
// one of them, or tells of one.
func isLate(f *imagepb.OpenFile) bool {
	rest, inProc := strings.CutPrefix(f.Path, "/proc/")
	return f.Kind == imagepb.OpenFile_PIDFD && f.PidfdPid > 0 ||
		f.Kind == imagepb.OpenFile_PROC && inProc && rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

// pidfdFlags are PIDFD_NONBLOCK and PIDFD_THREAD, which are O_NONBLOCK and O_EXCL.
func pidfdFlags(f *imagepb.OpenFile) uint64 { return uint64(f.Flags) & (unix.O_NONBLOCK | unix.O_EXCL) }

// openGonePidfd opens a pidfd of the seed, which ends before the job runs.
func (r *restorer) openGonePidfd(s *script, f *imagepb.OpenFile, at uint64) error {
	self := &s.add("getpid", unix.SYS_GETPID).Result
	if err := s.do(); err != nil {
		return err
	}
	s.add("pidfd_open", unix.SYS_PIDFD_OPEN, uint64(*self), pidfdFlags(f))
	s.put(at)
	return s.do()
}

// addLate adds the call that opens such a file.
func (s *script) addLate(f *imagepb.OpenFile) (result *int64) {
	if f.Kind == imagepb.OpenFile_PIDFD {
		return &s.add("pidfd_open", unix.SYS_PIDFD_OPEN, real(int(f.PidfdPid)), pidfdFlags(f)).Result
	}
	return &s.add("open "+f.Path, unix.SYS_OPENAT, atFdCwd, s.string(ids.InProc(f.Path, ids.Real)), uint64(f.Flags)&^creation, 0).Result
}
