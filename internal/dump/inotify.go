// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
)

const inotifyLink = "anon_inode:inotify"

const (
	// lastWd is the highest watch that is carried: the kernel counts up to it, and
	// so has the resume.
	lastWd = 1 << 20
	// searchLimit is how many names are looked at for what is watched, and searchTime
	// for how long, in the pause.
	searchLimit = 20000
	searchTime  = 500 * time.Millisecond
)

// checkEvents refuses, for now, inotify instances with events that the program has
// not read: nobody can put them into another one. It comes before anything that is
// an event itself.
func (d *Dump) checkEvents() {
	for _, f := range d.files.list {
		if f.link != inotifyLink {
			continue
		}
		if why := f.unread(); why != "" {
			d.files.passing++
			d.files.refused = append(d.files.refused, fmt.Sprintf("%s: %s", f, why))
		}
	}
}

// unread is what to say of one that has some.
func (f *file) unread() string {
	fd, err := f.borrow()
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ) // FIONREAD, inotify(7)
	switch {
	case err != nil:
		return fmt.Sprintf("look for events: %v", err)
	case n == 0:
		return ""
	}
	return fmt.Sprintf("%d bytes of events are there that the program has not read, and they cannot be carried: "+
		"let it read them, or close the descriptor before the checkpoint (esky_on_checkpoint)", n)
}

// describeInotify finds a name for each thing that is watched.
func (d *Dump) describeInotify(f *file) {
	no := func(format string, args ...any) {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: ", f)+fmt.Sprintf(format, args...))
	}
	f.pb.Kind = imagepb.OpenFile_INOTIFY
	if f.info.Flags&unix.O_ASYNC != 0 {
		no("an inotify that sends signals (O_ASYNC) is not carried yet")
		return
	}
	s, err := newSearch(f.info.Inotify)
	if err != nil {
		no("look for what it watches: %v", err)
		return
	}
	defer unix.Close(s.fd)
	d.searchWatched(s)
	for _, w := range f.info.Inotify {
		path, ok := s.found[watched{w.Ino, w.Sdev}]
		switch {
		case !ok:
			no("watch %d is of a file (inode %d) that has no name any more, or none that was found near the job's files: "+
				"remove that watch before the checkpoint (esky_on_checkpoint)", w.Wd, w.Ino)
		case w.Wd > lastWd:
			no("watch %d has too high a number to be made again", w.Wd)
		default:
			f.pb.Inotify = append(f.pb.Inotify, &imagepb.InotifyWatch{Wd: int32(w.Wd), Path: path, Mask: w.Mask})
		}
	}
	slices.SortFunc(f.pb.Inotify, func(a, b *imagepb.InotifyWatch) int { return int(a.Wd - b.Wd) })
}

// watched is an inode as the kernel prints it for a watch. That need not be what
// stat(2) says of it: btrfs and overlayfs give other numbers there.
type watched struct{ ino, sdev uint64 }

// search looks for names of inodes.
type search struct {
	fd      int // an inotify instance of our own, which tells for a path what the kernel prints
	missing map[watched]bool
	inos    map[uint64]bool
	found   map[watched]string
	names   int // that have been looked at
	end     time.Time
	tried   map[string]bool
	below   map[string][]string // of directories that were listed, the directories there
}

func newSearch(watches []procfs.InotifyWatch) (*search, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	s := &search{
		fd: fd, end: time.Now().Add(searchTime),
		missing: map[watched]bool{}, inos: map[uint64]bool{}, found: map[watched]string{},
		tried: map[string]bool{}, below: map[string][]string{},
	}
	for _, w := range watches {
		s.missing[watched{w.Ino, w.Sdev}], s.inos[w.Ino] = true, true
	}
	return s, nil
}

// done says that there is no sense in looking further.
func (s *search) done() bool {
	return len(s.missing) == 0 || s.names >= searchLimit || time.Now().After(s.end)
}

// identity asks the kernel, by a watch of our own. It tells nobody of that, while
// an open would be an event for who watches.
func (s *search) identity(path string) (watched, bool) {
	wd, err := unix.InotifyAddWatch(s.fd, path, unix.IN_DELETE_SELF|unix.IN_DONT_FOLLOW)
	if err != nil {
		return watched{}, false
	}
	info, err := procfs.ReadFdInfo(os.Getpid(), s.fd)
	_, _ = unix.InotifyRmWatch(s.fd, uint32(wd))
	if err != nil || len(info.Inotify) != 1 {
		return watched{}, false
	}
	return watched{info.Inotify[0].Ino, info.Inotify[0].Sdev}, true
}

// tryUp tries a path and all that it lies in.
func (s *search) tryUp(path string) {
	for filepath.IsAbs(path) && !s.tried[path] && !s.done() {
		s.try(path)
		path = filepath.Dir(path)
	}
}

// try looks whether a path leads to something that is missing.
func (s *search) try(path string) {
	if s.tried[path] {
		return
	}
	s.tried[path] = true
	s.names++
	if id, ok := s.identity(path); ok && s.missing[id] {
		s.found[id] = path
		delete(s.missing, id)
	}
}

// list tries what is in a directory and returns the directories there. Only names
// with the right inode number are worth a closer look.
func (s *search) list(dir string) (below []string) {
	if below, ok := s.below[dir]; ok || s.done() || !filepath.IsAbs(dir) {
		s.below[dir] = nil // so that a circle of mounts ends
		return below
	}
	defer func() { s.below[dir] = below }()
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(searchLimit - s.names)
	for _, name := range names {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		if s.names++; s.inos[st.Ino] {
			s.try(path)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			below = append(below, path)
		}
	}
	return below
}

// searchWatched looks for what is watched: at the files and directories that the
// job has to do with and all that they lie in, then at what lies beside them and
// where programs like to watch, at last at all that lies below its directories.
func (d *Dump) searchWatched(s *search) {
	var deep, flat []string
	for _, q := range d.procs {
		if cwd, err := procfs.Link(q.Eye, "cwd"); err == nil {
			s.tryUp(cwd)
			deep = append(deep, cwd)
		}
	}
	for _, f := range d.files.list {
		s.tryUp(f.link)
		if f.st.Mode&unix.S_IFMT == unix.S_IFDIR {
			deep = append(deep, f.link)
		} else {
			flat = append(flat, filepath.Dir(f.link))
		}
	}
	for _, q := range d.procs {
		for i := range q.maps {
			s.tryUp(q.maps[i].Path)
		}
	}
	flat = append(append(flat, d.o.Scratch...), "/tmp", "/var/tmp", "/dev/shm", "/etc", "/")
	for _, dir := range slices.Concat(deep, flat) {
		s.list(dir)
	}
	for len(deep) > 0 && !s.done() {
		deep = append(deep[1:], s.list(deep[0])...)
	}
}
