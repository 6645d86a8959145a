// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// otherName looks for another name of a file whose own was removed, in the same
// directory. That is how files are made that appear only when they are complete:
// sem_open(3) of glibc for one links a temporary file and unlinks the first name,
// which the kernel goes on showing.
func otherName(path string, same func(*unix.Stat_t) bool) (string, bool) {
	dir := filepath.Dir(path)
	if !filepath.IsAbs(path) || dir == "/" {
		return "", false
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		var st unix.Stat_t
		name := filepath.Join(dir, e.Name())
		if e.Type().IsRegular() && unix.Lstat(name, &st) == nil && same(&st) {
			return name, true
		}
	}
	return "", false
}

// linkedAs is the name of a mapped file whose first name was removed.
func linkedAs(m *procfs.Mapping) (string, bool) {
	if !m.Deleted || m.Path == "/dev/zero" || strings.HasPrefix(m.Path, "/memfd:") || strings.HasPrefix(m.Path, "/SYSV") {
		return "", false
	}
	return otherName(m.Path, func(st *unix.Stat_t) bool { return st.Ino == m.Ino && st.Dev == m.Dev })
}

// nameAgain gives a file whose name was removed another one that it has.
func (f *file) nameAgain() bool {
	if f.st.Nlink == 0 {
		return false
	}
	name, ok := otherName(strings.TrimSuffix(f.link, " (deleted)"), func(st *unix.Stat_t) bool {
		return st.Ino == f.st.Ino && st.Dev == f.st.Dev
	})
	if ok {
		f.link = name
	}
	return ok
}
