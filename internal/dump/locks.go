// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
)

var lockKinds = map[string]imagepb.FileLock_Kind{
	"FLOCK": imagepb.FileLock_FLOCK, "POSIX": imagepb.FileLock_POSIX, "OFDLCK": imagepb.FileLock_OFD, "LEASE": imagepb.FileLock_LEASE,
}

// addLock notes a lock that shows at a descriptor of a process. One that belongs
// to the description shows at each of its descriptors and is noted once; POSIX
// locks, which belong to processes, show in each process only its own.
func (t *fileTable) addLock(f *file, l procfs.Lock, pid, fd int) {
	kind, ok := lockKinds[l.Type]
	switch {
	case l.Blocked:
		return // the waiting system call asks again
	case !ok:
		t.refused = append(t.refused, fmt.Sprintf("%s: a %s cannot be carried yet", f, strings.ToLower(l.Type)))
		return
	case kind == imagepb.FileLock_LEASE && l.Mode != "ACTIVE":
		t.refused = append(t.refused, fmt.Sprintf("%s: somebody is waiting for the program to give up its lease", f))
		return
	}
	known := slices.ContainsFunc(f.pb.Locks, func(o *imagepb.FileLock) bool {
		return o.Kind == kind && o.Start == l.Start && o.End == l.End && (kind != imagepb.FileLock_POSIX || o.Pid == int32(pid))
	})
	if !known {
		f.pb.Locks = append(f.pb.Locks, &imagepb.FileLock{
			Kind: kind, Exclusive: l.Exclusive, Start: l.Start, End: l.End, Pid: int32(pid), Fd: int32(fd),
		})
	}
}

// leased says that the job has a lease on the file: whoever opens it, this
// process too, would break the lease (fcntl(2)).
func (f *file) leased() bool {
	return slices.ContainsFunc(f.pb.Locks, func(l *imagepb.FileLock) bool { return l.Kind == imagepb.FileLock_LEASE })
}
