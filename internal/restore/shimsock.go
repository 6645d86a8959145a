// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Without namespaces nobody but root may change its root directory (chroot(2)). A
// relative name is a name in the directory where the binder is, deep enough in the
// scratch directory for names that go up.
const deep = "d/d/d/d/d/d/d/d"

// bindInPlace is bindScratch for an absolute path: the socket is bound where it
// says, and its file moved aside at once. A file that a socket of this job has
// there is put back. Where it cannot be done the socket gets another name.
func (t *sockets) bindInPlace(h *task, at uint64, path string) error {
	kept := fmt.Sprintf("%s.esky-kept-%d", path, os.Getpid())
	for _, s := range t.list {
		if s.pb.Path == path && s.made {
			if err := os.Rename(path, kept); err != nil {
				return err
			}
			defer os.Rename(kept, path)
		} else if s.pb.Path == path { // stale: checkSocketFile
			_ = os.Remove(path)
		}
	}
	err := bind(h, at, unixName(path))
	if err == nil {
		t.moved[path] = fmt.Sprintf("%s.esky-%d", path, os.Getpid())
		return os.Rename(path, t.moved[path])
	}
	if !slices.ContainsFunc([]error{unix.EADDRINUSE, unix.EACCES, unix.ENOENT, unix.EROFS}, func(e error) bool { return errors.Is(err, e) }) {
		return err
	}
	t.r.note("a socket that was bound to %s has another name now: %v", path, err)
	name := fmt.Sprintf("n%d", len(t.moved))
	t.moved[path] = filepath.Join(t.home(), name)
	return bind(h, at, unixName(name))
}
