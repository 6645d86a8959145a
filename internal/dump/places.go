// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/pages"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
)

// removedSuffix is what the kernel adds to the path of what has no name any more.
const removedSuffix = " (deleted)"

// tooLong stands for a path that the kernel does not tell, as it is longer than a
// page (proc_pid_fd(5)).
const tooLong = "a path longer than 4096 bytes"

// describeCwd notes where a process or thread works: also if that was removed, or lies so
// deep that no system call takes the path.
func describeCwd(hostTid int) (*imagepb.Place, error) {
	link := fmt.Sprintf("/proc/%d/cwd", hostTid)
	cwd, err := procfs.Link(hostTid, "cwd")
	if errors.Is(err, unix.ENAMETOOLONG) {
		cwd, err = climb(link)
	}
	if err != nil || !strings.HasSuffix(cwd, removedSuffix) {
		return &imagepb.Place{Cwd: cwd}, err
	}
	var st, named unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", link, err)
	}
	if unix.Stat(cwd, &named) == nil && named.Dev == st.Dev && named.Ino == st.Ino {
		return &imagepb.Place{Cwd: cwd}, nil // it is called so
	}
	return &imagepb.Place{Cwd: strings.TrimSuffix(cwd, removedSuffix), CwdRemoved: st.Ino}, nil
}

// climb finds the path of a directory by going up from it.
func climb(link string) (string, error) {
	dir, err := os.Open(link)
	if err != nil {
		return "", err
	}
	path := ""
	for {
		name, up, err := nameIn(dir)
		dir.Close()
		if err != nil {
			return "", fmt.Errorf("find out the path of %s: …%s: %w", link, path, err)
		}
		if up == nil {
			return path, nil
		}
		dir, path = up, "/"+name+path
	}
}

// nameIn opens the directory above one and finds its name there. At the root
// there is none above.
func nameIn(dir *os.File) (string, *os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	up := os.NewFile(uintptr(fd), "..")
	var here, above, st unix.Stat_t
	if err := errors.Join(unix.Fstat(int(dir.Fd()), &here), unix.Fstat(fd, &above)); err != nil {
		return "", nil, errors.Join(err, up.Close())
	}
	if here.Dev == above.Dev && here.Ino == above.Ino {
		return "", nil, up.Close()
	}
	names, err := up.Readdirnames(-1)
	for _, name := range names {
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Dev == here.Dev && st.Ino == here.Ino {
			return name, up, nil
		}
	}
	return "", nil, errors.Join(err, up.Close(), unix.ENOENT)
}

// describeDirectory notes an open directory, which may have been removed.
func (d *Dump) describeDirectory(f *file) {
	f.pb.Kind, f.pb.Path = imagepb.OpenFile_DIRECTORY, f.link
	switch {
	case f.fsType() == unix.PROC_SUPER_MAGIC:
		f.pb.Kind, f.pb.Path = imagepb.OpenFile_PROC, ids.InProc(f.link, ids.Virtual)
	case !f.named():
		f.pb.Path, f.pb.Removed = strings.TrimSuffix(f.link, removedSuffix), true
	}
}

// describePath notes a descriptor that was opened with O_PATH, which is but a name.
func (d *Dump) describePath(f *file) {
	var st unix.Stat_t
	if unix.Lstat(f.link, &st) != nil || st.Dev != f.st.Dev || st.Ino != f.st.Ino {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: what it was opened for (O_PATH) has no name any more", f))
	}
	f.pb.Kind, f.pb.Path = imagepb.OpenFile_PATH, f.link
}

// describeProc notes a file of /proc or /sys. One of a process is opened when that
// process is there again.
func (d *Dump) describeProc(f *file) {
	f.pb.Kind, f.pb.Path = imagepb.OpenFile_PROC, ids.InProc(f.link, ids.Virtual)
	first, _, _ := strings.Cut(strings.TrimPrefix(f.pb.Path, "/proc/"), "/")
	pid, err := strconv.Atoi(first)
	if err != nil || !strings.HasPrefix(f.pb.Path, "/proc/") {
		return
	}
	for _, p := range d.frozen.Processes {
		if p.Pid == pid {
			return
		}
	}
	d.files.refused = append(d.files.refused, fmt.Sprintf("%s: it tells of a process that has ended", f))
}

// isPath says that the descriptor is open with O_PATH.
func (f *file) isPath() bool { return f.info.Flags&unix.O_PATH != 0 }

// orZero reads pages that may lie behind the end of their file, where there is
// nothing (mmap(2), SIGBUS).
func orZero(readAt func([]byte, uint64) error) func([]byte, uint64) error {
	return func(b []byte, at uint64) error {
		if readAt(b, at) == nil {
			return nil
		}
		for piece := range slices.Chunk(b, os.Getpagesize()) {
			err := readAt(piece, at)
			if errors.Is(err, pages.ErrUnreadable) || errors.Is(err, unix.EFAULT) {
				clear(piece)
			} else if err != nil {
				return err
			}
			at += uint64(len(piece))
		}
		return nil
	}
}
