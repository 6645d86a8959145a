// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// preflightFiles looks at the descriptors of a running process.
func preflightFiles(table *fileTable, hostPid, pid int, comm string) []string {
	var refused []string
	fds, _ := procfs.Fds(hostPid)
	for _, fd := range fds {
		f := &file{hostPid: hostPid, pid: pid, comm: comm, fd: fd}
		if f.read() != nil {
			continue // closed meanwhile
		}
		if _, given := table.stream(f); given {
			continue
		}
		if why := refuseFile(f); why != "" {
			refused = append(refused, fmt.Sprintf("%s: %s", f, why))
		}
	}
	return refused
}

// refuseFile names the reason why a file cannot be carried.
func refuseFile(f *file) string {
	if f.link == pidfdLink {
		return "" // describePidfd looks at whose it is
	}
	switch {
	case f.link == tooLong:
		return "it lies too deep to be opened again by its path"
	case f.isPath():
		return ""
	}
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return f.refuseRegular()
	case unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK:
		return ""
	case unix.S_IFCHR:
		if isStatelessDevice(&f.st) {
			return ""
		}
		return f.refuseDevice()
	case unix.S_IFBLK:
		return "a block device cannot be carried"
	}
	switch f.link {
	case "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "anon_inode:[timerfd]", "anon_inode:[signalfd]", inotifyLink:
		return ""
	}
	return refuseKind(f.link)
}

// Magic numbers of file systems whose files are no files
// (include/uapi/linux/magic.h, ipc/mqueue.c).
const (
	mqueueMagic = 0x19800202
	secretMagic = 0x5345434d
)

// refuseRegular knows what only looks like a regular file.
func (f *file) refuseRegular() string {
	switch f.fsType() {
	case unix.NSFS_MAGIC:
		return "a descriptor of a namespace cannot be carried"
	case unix.HUGETLBFS_MAGIC:
		if f.named() {
			return "a file of hugetlbfs is not carried: let the program use huge pages without a name (MAP_ANONYMOUS, memfd_create)"
		}
	case secretMagic:
		return "secret memory (memfd_secret) cannot be read by anybody else"
	}
	return ""
}

// isStatelessDevice knows null, zero, full, random, urandom (major 1).
func isStatelessDevice(st *unix.Stat_t) bool {
	if unix.Major(st.Rdev) != 1 {
		return false
	}
	switch unix.Minor(st.Rdev) {
	case 3, 5, 7, 8, 9:
		return true
	}
	return false
}
