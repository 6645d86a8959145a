// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Descriptions are opened in the seed, each once, on stage. All processes inherit
// them, so that what was shared is shared again; each process then moves its own to
// their places. What has a number that nothing else has in any process is opened
// there (Plan.Stage); all else is staged above all numbers in use: other
// descriptions, then objects, the pipe that is being filled, pseudo-terminals, and
// what sockets need for a while.
func (r *restorer) stageFile(i uint32) uint64   { return r.plan.Stage[i] }
func (r *restorer) stageObject(i uint32) uint64 { return r.plan.StageEnd + uint64(i) }
func (r *restorer) stagePipe(end uint32) uint64 {
	return r.stageObject(uint32(len(r.meta.Objects))) + uint64(end)
}
func (r *restorer) stagePty(i, end uint32) uint64 { return r.stagePipe(2) + 2*uint64(i) + uint64(end) }
func (r *restorer) stageSpare() uint64            { return r.stagePty(uint32(len(r.meta.Ptys)), 0) }
func (r *restorer) stageEnd() uint64              { return r.stageSpare() + r.sockets.spares }

// first is the lowest descriptor that is free in the seed and in every process
// until its descriptors are in place; so what is opened gets this number. Up to
// spare of them are in use at a time.
const (
	first = 3
	spare = 4
)

// openFiles sets the stage.
func (r *restorer) openFiles() error {
	need := r.stageSpare() + r.spareSockets() + first + 8 + r.fillers()
	var have unix.Rlimit
	if err := unix.Prlimit(r.seed.pid, unix.RLIMIT_NOFILE, nil, &have); err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: min(max(need, have.Cur), have.Max), Max: have.Max}
	if err := unix.Prlimit(r.seed.pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return fmt.Errorf("raise the limit on descriptors: %w", err)
	}
	err := r.setStage()
	beyond := errors.Is(err, unix.EBADF) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.EINVAL) // of dup3, open, F_DUPFD
	if need > have.Max && beyond {
		return fmt.Errorf("up to %d descriptors are needed for the resume, and the limit is %d: raise the hard limit (ulimit -Hn): %w", need, have.Max, err)
	}
	return err
}

func (r *restorer) setStage() error {
	s := r.seed.script()
	s.add("close_range", unix.SYS_CLOSE_RANGE, first, uint64(^uint32(0)), 0)
	if err := s.do(); err != nil {
		return err
	}
	if err := r.openPosixQueues(); err != nil {
		return err
	}
	for i, o := range r.meta.Objects {
		if o.Kind == imagepb.Object_SYSV {
			continue // see openIPC
		}
		if err := r.openObject(uint32(i), o); err != nil {
			return fmt.Errorf("put back %s: %w", o.Name, err)
		}
	}
	if err := r.openPipes(); err != nil {
		return fmt.Errorf("put back a pipe: %w", err)
	}
	r.sockets = r.newSockets()
	if err := r.sockets.make(); err != nil {
		return fmt.Errorf("put back a %w", takenMeanwhile(err))
	}
	if err := r.openPtys(); err != nil {
		return err
	}
	for i, f := range r.meta.OpenFiles {
		if isPipe(f) {
			continue
		}
		if err := r.openFile(uint32(i), f); err != nil {
			return fmt.Errorf("open %s again: %w", f.Path, err)
		}
	}
	if err := r.closePtys(); err != nil {
		return err
	}
	return r.unlinkQueues()
}

// put moves the descriptor that was just opened, the first free one, on stage.
func (s *script) put(at uint64) {
	s.add("dup3", unix.SYS_DUP3, first, at, 0)
	s.add("close", unix.SYS_CLOSE, first)
}

// creation are the flags of open(2) that matter only to the making of a file, and
// O_ASYNC, which setOwner sets.
const creation = unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_ASYNC

func (r *restorer) openFile(i uint32, f *imagepb.OpenFile) error {
	s, at := r.seed.script(), r.stageFile(i)
	flags := uint64(f.Flags) &^ creation
	status := flags & (unix.O_NONBLOCK | unix.O_APPEND | unix.O_DIRECT | unix.O_NOATIME)
	if isLate(f) {
		return nil // see openLate
	}
	path := r.files.now(f.Path)
	if f.Removed {
		var err error
		if path, err = r.removedDir(path, f.Ino); err != nil {
			return err
		}
	}
	switch f.Kind {
	case imagepb.OpenFile_STDIO:
		s.add("dup3", unix.SYS_DUP3, uint64(f.Stdio), at, 0)
		r.seekStream(s, f, at)
		r.setStreamModes(f)
	case imagepb.OpenFile_REGULAR, imagepb.OpenFile_DIRECTORY, imagepb.OpenFile_CHARDEV, imagepb.OpenFile_PROC, imagepb.OpenFile_PATH:
		s.add("open", unix.SYS_OPENAT, atFdCwd, s.string(path), flags|unix.O_NOCTTY, 0)
		s.put(at)
		r.seek(s, f, at)
	case imagepb.OpenFile_OBJECT_FILE:
		s.add("open", unix.SYS_OPENAT, atFdCwd, s.string(fmt.Sprintf("/proc/self/fd/%d", r.stageObject(f.Object))), flags&^(unix.O_TMPFILE|unix.O_NOFOLLOW), 0)
		s.put(at)
		r.seek(s, f, at)
	case imagepb.OpenFile_PIPE, imagepb.OpenFile_FIFO:
		r.openPipeEnd(s, f, flags, at)
	case imagepb.OpenFile_EVENTFD:
		kind := flags & unix.O_NONBLOCK
		if f.EventfdSemaphore {
			kind |= unix.EFD_SEMAPHORE
		}
		s.add("eventfd", unix.SYS_EVENTFD2, 0, kind)
		if f.EventfdCount > 0 {
			s.add("write", unix.SYS_WRITE, first, s.words(f.EventfdCount), 8)
		}
		s.put(at)
	case imagepb.OpenFile_TIMERFD:
		s.add("timerfd_create", unix.SYS_TIMERFD_CREATE, uint64(f.Timerfd.Clockid), flags&unix.O_NONBLOCK)
		s.put(at)
	case imagepb.OpenFile_SIGNALFD:
		s.add("signalfd", unix.SYS_SIGNALFD4, ^uint64(0), s.words(f.SignalfdMask), sigsetSize, flags&unix.O_NONBLOCK)
		s.put(at)
	case imagepb.OpenFile_INOTIFY:
		s.add("inotify_init", unix.SYS_INOTIFY_INIT1, flags&unix.O_NONBLOCK) // see setWatches
		s.put(at)
	case imagepb.OpenFile_EPOLL:
		s.add("epoll_create", unix.SYS_EPOLL_CREATE1, 0)
		s.put(at)
	case imagepb.OpenFile_SOCKET:
		s.add("fcntl", unix.SYS_FCNTL, at, unix.F_SETFL, status)
	case imagepb.OpenFile_PTY_MASTER, imagepb.OpenFile_PTY_SLAVE, imagepb.OpenFile_DEV_TTY:
		r.openTerminal(s, f, at)
	case imagepb.OpenFile_PIDFD:
		return r.openGonePidfd(s, f, at)
	case imagepb.OpenFile_MQUEUE:
		r.openQueueFile(s, f, at)
	default:
		return fmt.Errorf("a file of unknown kind %v", f.Kind)
	}
	return s.do()
}

const sigsetSize = 8

func (r *restorer) seek(s *script, f *imagepb.OpenFile, at uint64) {
	if f.Offset != 0 && f.Flags&unix.O_PATH == 0 {
		s.add("lseek", unix.SYS_LSEEK, at, uint64(f.Offset), unix.SEEK_SET)
	}
}

// seekStream goes on where the job was in a stream that is the same file as at
// the checkpoint.
func (r *restorer) seekStream(s *script, f *imagepb.OpenFile, at uint64) {
	switch {
	case f.Flags&unix.O_APPEND != 0 || !r.files.sameStream(r.init, f):
	case r.files.keepsTail(f):
		s.add("lseek", unix.SYS_LSEEK, at, 0, unix.SEEK_END)
	default:
		s.add("lseek", unix.SYS_LSEEK, at, uint64(f.Offset), unix.SEEK_SET)
	}
}

// openObject makes memory or a file that has no name, and fills it.
func (r *restorer) openObject(i uint32, o *imagepb.Object) error {
	at := r.stageObject(i)
	s := r.seed.script()
	dir := filepath.Dir(o.Name)
	if o.Kind == imagepb.Object_UNLINKED && filepath.IsAbs(o.Name) && supportsTmpfile(dir) {
		s.add("open", unix.SYS_OPENAT, atFdCwd, s.string(dir), unix.O_TMPFILE|unix.O_RDWR, 0o600)
	} else {
		name := filepath.Base(o.Name)
		flags := uint64(0)
		if o.Kind == imagepb.Object_MEMFD {
			name, flags = o.Name, unix.MFD_ALLOW_SEALING
		}
		s.add("memfd_create", unix.SYS_MEMFD_CREATE, s.string(name), flags)
	}
	s.put(at)
	s.add("ftruncate", unix.SYS_FTRUNCATE, at, o.Size)
	if err := s.do(); err != nil {
		return err
	}
	f, err := r.openStaged(at, unix.O_RDWR)
	if err != nil {
		return err
	}
	if o.File == "" {
		r.objects[i] = f // its content is in the page data
		return nil
	}
	defer f.Close()
	saved, err := r.image.OpenFile(o.File)
	if err != nil {
		return err
	}
	defer saved.Close()
	_, err = io.Copy(f, saved)
	return err
}

// supportsTmpfile tries O_TMPFILE, which not every file system has (open(2)).
func supportsTmpfile(dir string) bool {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// openStaged opens the file behind a descriptor of the seed.
func (r *restorer) openStaged(at uint64, flags int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", r.seed.pid, at), flags, 0)
}

// sealObjects seals what was sealed, once everything is mapped and filled, and
// gives files without a name their mode, which may forbid to write. That of one
// that is only mapped is not known: nobody can open it any more.
func (r *restorer) sealObjects(s *script) {
	for i, o := range r.meta.Objects {
		if (o.Kind == imagepb.Object_UNLINKED || o.Kind == imagepb.Object_MEMFD) && o.Mode != 0 {
			s.add("mode", unix.SYS_FCHMOD, r.stageObject(uint32(i)), uint64(o.Mode&0o7777))
		}
		if o.Kind == imagepb.Object_MEMFD && o.Seals != 0 {
			s.add("seal", unix.SYS_FCNTL, r.stageObject(uint32(i)), unix.F_ADD_SEALS, uint64(o.Seals))
		}
	}
}

func isPipe(f *imagepb.OpenFile) bool {
	return f.Kind == imagepb.OpenFile_PIPE || f.Kind == imagepb.OpenFile_FIFO
}

// openPipes makes one pipe after the other, with all that the job has open of it.
func (r *restorer) openPipes() error {
	ends := make([][]uint32, len(r.meta.Pipes))
	for i, f := range r.meta.OpenFiles {
		if isPipe(f) {
			ends[f.Pipe] = append(ends[f.Pipe], uint32(i))
		}
	}
	for i, p := range r.meta.Pipes {
		if err := r.openPipe(p); err != nil {
			return err
		}
		for _, file := range ends[i] {
			if err := r.openFile(file, r.meta.OpenFiles[file]); err != nil {
				return err
			}
		}
		s := r.seed.script()
		s.add("close_range", unix.SYS_CLOSE_RANGE, r.stagePipe(0), r.stagePipe(1), 0)
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// openPipe makes a pipe, or opens a FIFO, and puts back what was in it.
func (r *restorer) openPipe(p *imagepb.Pipe) error {
	s := r.seed.script()
	rd, wr := r.stagePipe(0), r.stagePipe(1)
	if p.Path != "" {
		s.add("open", unix.SYS_OPENAT, atFdCwd, s.string(p.Path), unix.O_RDWR|unix.O_NONBLOCK, 0)
		s.add("dup3", unix.SYS_DUP3, first, rd, 0)
		s.add("dup3", unix.SYS_DUP3, first, wr, 0)
		s.add("close", unix.SYS_CLOSE, first)
	} else {
		s.add("pipe", unix.SYS_PIPE2, s.words(0), 0)
		s.add("dup3", unix.SYS_DUP3, first, rd, 0)
		s.add("dup3", unix.SYS_DUP3, first+1, wr, 0)
		s.add("close_range", unix.SYS_CLOSE_RANGE, first, first+1, 0)
	}
	if err := s.do(); err != nil {
		return err
	}
	s.add("pipe size", unix.SYS_FCNTL, wr, unix.F_SETPIPE_SZ, uint64(p.Capacity))
	if err := s.do(); errors.Is(err, unix.EPERM) { // beyond fs.pipe-user-pages-soft, pipe(7)
		r.note("a pipe has less room than it had: the user has too many pipes")
	} else if err != nil {
		return err
	}
	if len(p.Content) == 0 {
		return nil
	}
	return r.fillPipe(p, wr)
}

// fillPipe puts back what was in a pipe. Packets (O_DIRECT, pipe2(2)) are what
// single writes write.
func (r *restorer) fillPipe(p *imagepb.Pipe, wr uint64) error {
	f, err := r.openStaged(wr, unix.O_WRONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer f.Close()
	packets := p.Packets
	if len(packets) == 0 {
		packets = []uint32{uint32(len(p.Content))}
	} else if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_DIRECT|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("a pipe of packets: %w", err)
	}
	rest := p.Content
	for _, n := range packets {
		if _, err := f.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// openPipeEnd opens one description of a pipe: through /proc, which gives each
// a description of its own.
func (r *restorer) openPipeEnd(s *script, f *imagepb.OpenFile, flags, at uint64) {
	end := uint32(0)
	if f.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		end = 1
	}
	path := fmt.Sprintf("/proc/self/fd/%d", r.stagePipe(end))
	s.add("open", unix.SYS_OPENAT, atFdCwd, s.string(path), flags&^unix.O_DIRECT|unix.O_NONBLOCK, 0) // a pipe can have O_DIRECT only later
	s.put(at)
	s.add("fcntl", unix.SYS_FCNTL, at, unix.F_SETFL, flags&^unix.O_ACCMODE)
}

// borrow duplicates a descriptor of the seed into this process.
func (r *restorer) borrow(at uint64) (int, error) {
	pidfd, err := unix.PidfdOpen(r.seed.pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, int(at), 0)
}
