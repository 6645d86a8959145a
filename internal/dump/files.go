// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
	"github.com/esky-hpc/esky/internal/procfs"
)

// fileTable collects the open file descriptions of a job, each once, however
// many descriptors in however many processes share it.
type fileTable struct {
	init    int // its procfs.Eye; its descriptors 0, 1, 2 are the job's given streams, if they are in stdio
	stdio   [3]unix.Stat_t
	list    []*file
	by      map[fileKey][]*file
	of      map[int][]*imagepb.Fd // by pid in the namespace
	refused []string
	passing int // how many of them are about to pass
}

// fileKey is what two descriptors of one description have in common at least.
type fileKey struct {
	dev, ino uint64
	pos      int64
	flags    uint32
	stream   int // 1, 2, 3: the terminal as standard input, output, error
}

// file is one open file description and a descriptor through which to reach it.
type file struct {
	pb      *imagepb.OpenFile
	index   uint32
	hostPid int
	pid     int
	comm    string
	fd      int
	link    string
	st      unix.Stat_t
	info    procfs.FdInfo
	flying  bool // on its way in a socket; the descriptor is our own copy
}

func (f *file) String() string {
	return fmt.Sprintf("pid %d (%s): descriptor %d (%s)", f.pid, f.comm, f.fd, f.link)
}

// path names the descriptor's file for other processes.
func (f *file) path() string { return fmt.Sprintf("/proc/%d/fd/%d", f.hostPid, f.fd) }

func newFileTable(tree freeze.Tree) *fileTable {
	t := &fileTable{init: procfs.Eye(tree.Top()), by: map[fileKey][]*file{}, of: map[int][]*imagepb.Fd{}}
	for i := range t.stdio {
		if !tree.Adopted() || givenStream(tree, i) {
			_ = unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", t.init, i), &t.stdio[i])
		}
	}
	return t
}

// collectFiles lists all descriptors, then looks into what they lead to.
func (d *Dump) collectFiles() error {
	d.files = newFileTable(d.o.Tree)
	for _, q := range d.procs {
		if first, ok := d.filesOf[q.Pid]; ok && first != q.Pid {
			d.files.of[q.Pid] = d.files.of[first]
		} else if err := d.files.addProcess(q.Process); err != nil {
			return err
		}
	}
	d.checkEvents()
	defer d.closeSockets()
	if err := d.openSockets(); err != nil {
		return err
	}
	for _, f := range d.files.list {
		if err := d.describeFile(f); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		d.meta.OpenFiles = append(d.meta.OpenFiles, f.pb)
	}
	if err := d.describeSockets(); err != nil {
		return err
	}
	if d.o.Tree.Adopted() {
		d.noteStreams()
	}
	if len(d.files.refused) > 0 {
		return d.files.refusal()
	}
	if err := d.collectTerminals(); err != nil {
		return err
	}
	if len(d.files.refused) > 0 {
		return d.files.refusal()
	}
	return nil
}

func (t *fileTable) refusal() *RefusedError {
	return &RefusedError{Reasons: t.refused, passing: t.passing == len(t.refused)}
}

func (t *fileTable) addProcess(p *freeze.Process) error {
	fds, err := procfs.Fds(p.Eye)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		f := &file{hostPid: p.Eye, pid: p.Pid, comm: p.Stat.Comm, fd: fd}
		if err := f.read(); err != nil {
			return err
		}
		cloexec, locks := f.info.Flags&unix.O_CLOEXEC != 0, f.info.Locks
		f, err := t.intern(f)
		if err != nil {
			return err
		}
		for _, l := range locks {
			t.addLock(f, l, p.Pid, fd)
		}
		t.of[p.Pid] = append(t.of[p.Pid], &imagepb.Fd{Number: int32(fd), OpenFile: f.index, Cloexec: cloexec})
	}
	return nil
}

// read gets what /proc tells of a descriptor.
func (f *file) read() (err error) {
	if f.info, err = procfs.ReadFdInfo(f.hostPid, f.fd); err != nil {
		return err
	}
	f.link, err = procfs.Link(f.hostPid, fmt.Sprintf("fd/%d", f.fd))
	if errors.Is(err, unix.ENAMETOOLONG) {
		f.link = tooLong
	} else if err != nil {
		return err
	}
	if err := unix.Stat(f.path(), &f.st); err != nil {
		return fmt.Errorf("stat %s: %w", f.path(), err)
	}
	return nil
}

// intern returns the known file with the same description, or f itself.
func (t *fileTable) intern(f *file) (*file, error) {
	flags := f.info.Flags &^ unix.O_CLOEXEC
	key := fileKey{f.st.Dev, f.st.Ino, f.info.Pos, flags, t.terminal(f)}
	at, same, err := find(t.by[key], f)
	if err != nil {
		return nil, err
	}
	if same {
		return t.by[key][at], nil
	}
	f.index = uint32(len(t.list))
	f.pb = &imagepb.OpenFile{Flags: flags, Offset: f.info.Pos, Dev: f.st.Dev, Ino: f.st.Ino}
	t.list = append(t.list, f)
	t.by[key] = slices.Insert(t.by[key], at, f)
	return f, nil
}

// find looks for the description of f among some that are in the kernel's order.
func find(sorted []*file, f *file) (at int, same bool, err error) {
	at, same = slices.BinarySearchFunc(sorted, f, func(known, f *file) int {
		order, e := compareDescriptions(known.hostPid, known.fd, f.hostPid, f.fd)
		if e != nil {
			err = e
		}
		return order
	})
	return at, same, err
}

// compareDescriptions asks kcmp(2), which puts all descriptions in some order.
func compareDescriptions(pid1, fd1, pid2, fd2 int) (int, error) {
	order, err := kcmp(pid1, pid2, kcmpFile, fd1, fd2)
	if err != nil {
		return 0, fmt.Errorf("compare descriptor %d of pid %d with %d of pid %d: %w", fd1, pid1, fd2, pid2, err)
	}
	return order, nil
}

func sameDescription(pid1, fd1, pid2, fd2 int) (bool, error) {
	order, err := compareDescriptions(pid1, fd1, pid2, fd2)
	return order == 0, err
}

// stream says which of the job's given streams a file is: the same description
// as one of the init's, or the same pipe, socket or terminal opened again.
func (t *fileTable) stream(f *file) (int, bool) {
	if n := t.terminal(f); n > 0 {
		return n - 1, true
	}
	for i, st := range t.stdio {
		if st.Dev != f.st.Dev || st.Ino != f.st.Ino {
			continue
		}
		if same, err := sameDescription(f.hostPid, f.fd, t.init, i); err == nil && same {
			return i, true
		}
		switch mode := st.Mode & unix.S_IFMT; {
		case mode == unix.S_IFIFO && accessMode(f.info.Flags) == streamMode(i):
			return i, true
		case mode == unix.S_IFCHR && isTerminal(&st):
			return i, true
		}
	}
	return 0, false
}

// terminal is 1 + the descriptor for a given terminal as standard input, output
// or error, else 0. These three mostly share one description; the job may be
// resumed where they are three different files.
func (t *fileTable) terminal(f *file) int {
	if f.fd < len(t.stdio) && isTerminal(&f.st) && t.stdio[f.fd].Dev == f.st.Dev && t.stdio[f.fd].Ino == f.st.Ino {
		return 1 + f.fd
	}
	return 0
}

func accessMode(flags uint32) uint32 { return flags & unix.O_ACCMODE }

func streamMode(stream int) uint32 {
	if stream == 0 {
		return unix.O_RDONLY
	}
	return unix.O_WRONLY
}

func isTerminal(st *unix.Stat_t) bool {
	major := unix.Major(st.Rdev)
	return major == 4 || major == 5 || major >= 136 && major <= 143 // Documentation/admin-guide/devices.txt
}

// describeFile finds out what kind of thing the file is. What cannot be
// carried is noted, not returned: the user wants to see all of it.
func (d *Dump) describeFile(f *file) error {
	t := d.files
	if err := f.describeOwner(d); err != nil {
		return err
	}
	if i, ok := t.stream(f); ok {
		f.pb.Kind, f.pb.Stdio, f.pb.Termios = imagepb.OpenFile_STDIO, uint32(i), f.modes()
		d.describeRegularState(f)
		return nil
	}
	if why := refuseFile(f); why != "" {
		t.refused = append(t.refused, fmt.Sprintf("%s: %s", f, why))
		return nil
	}
	if f.flying && (f.link == pidfdLink || f.link == inotifyLink || f.link == "anon_inode:[eventpoll]") {
		t.refused = append(t.refused, fmt.Sprintf("%s: it is on its way through a socket, where this kind cannot be carried yet", f))
		return nil
	}
	if f.link == pidfdLink {
		d.describePidfd(f)
		return nil
	}
	if f.isPath() {
		d.describePath(f)
		return nil
	}
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return d.describeRegular(f)
	case unix.S_IFDIR:
		d.describeDirectory(f)
	case unix.S_IFCHR:
		if isTerminal(&f.st) {
			return d.describeTerminal(f)
		}
		f.pb.Kind, f.pb.Path = imagepb.OpenFile_CHARDEV, f.link
	case unix.S_IFIFO:
		return d.describePipe(f)
	case unix.S_IFSOCK:
		f.pb.Kind = imagepb.OpenFile_SOCKET // describeSockets does all of them at once
	default:
		return d.describeAnon(f)
	}
	return nil
}

// at returns the file behind a descriptor.
func (t *fileTable) at(pid, fd int) *file {
	for _, e := range t.of[pid] {
		if int(e.Number) == fd {
			return t.list[e.OpenFile]
		}
	}
	return nil
}

// describeRegular deals with regular files: those that have a name by which
// they can be opened again, and those that have not and are saved.
func (d *Dump) describeRegular(f *file) error {
	if f.fsType() == mqueueMagic {
		return d.describeMqueue(f)
	}
	if f.onKernelFS() {
		d.describeProc(f)
		return nil
	}
	if f.named() || f.nameAgain() {
		f.pb.Kind = imagepb.OpenFile_REGULAR
		d.describeRegularState(f)
		return nil
	}
	object, err := d.fileObject(f)
	f.pb.Kind, f.pb.Object = imagepb.OpenFile_OBJECT_FILE, object
	return err
}

// onKernelFS says that the file is one of /proc or /sys, which are the same
// everywhere and opened anew. The job's /proc is not ours, so its files cannot
// be found by their paths here.
func (f *file) onKernelFS() bool {
	switch f.fsType() {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC:
		return true
	}
	return false
}

func (f *file) fsType() int64 {
	var fs unix.Statfs_t
	if unix.Statfs(f.path(), &fs) != nil {
		return 0
	}
	return fs.Type
}

// named says that the path of a file leads to that file still.
func (f *file) named() bool {
	var st unix.Stat_t
	return unix.Stat(f.link, &st) == nil && st.Dev == f.st.Dev && st.Ino == f.st.Ino
}

func (d *Dump) describeRegularState(f *file) {
	f.pb.Path, f.pb.Size, f.pb.MtimeNs = f.link, uint64(max(f.st.Size, 0)), f.st.Mtim.Nano()
}

// openAgain opens the very file behind a descriptor of the job, whatever its
// name is now.
func (f *file) openAgain(flags int) (*os.File, error) {
	return jobfiles.Open(f.path(), flags)
}
