// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
	"github.com/esky-hpc/esky/internal/tracee"
)

// sockets makes the sockets of an image, in the seed, each at its place on stage:
//
//	connections  both ends at once, by connect and accept or as a pair
//	names        the others are bound, and listen; now connections wait there
//	queues       what was on its way is sent again, by who had sent it
//	the rest     connected datagram sockets, shutdown, options
//
// Queues come when all other files are on stage and all processes are made:
// descriptors may be among what is on its way, and pids.
type sockets struct {
	r       *restorer
	list    []*sock
	byFile  map[uint32]*sock
	helpers map[int32]*helper
	scratch string            // a directory in which names are bound that lead nowhere any more
	moved   map[string]string // such names that could not be bound in there: where their files are
	door    uint64
	spares  uint64 // how many numbers behind the stage are in use
	buffer  uint64 // in the seed, and so in all helpers, for what is sent
	room    int
}

// sock is a socket of the image.
type sock struct {
	file uint32
	at   uint64 // where it is on stage
	pb   *imagepb.Socket
	// far is where the other end is; for one that nobody has, a spare number.
	far   uint64
	spare bool
	made  bool
}

// helper is a process beside the seed that shares its memory and descriptors and
// has the pid of one of the job: what it makes and sends has its credentials.
type helper struct {
	*task
	nsPid uint64
}

func (r *restorer) newSockets() *sockets {
	t := &sockets{r: r, byFile: map[uint32]*sock{}, helpers: map[int32]*helper{}, moved: map[string]string{}}
	for i, f := range r.meta.OpenFiles {
		if f.Kind == imagepb.OpenFile_SOCKET && f.Socket != nil {
			s := &sock{file: uint32(i), at: r.stageFile(uint32(i)), pb: f.Socket}
			t.list = append(t.list, s)
			t.byFile[s.file] = s
		}
	}
	return t
}

// spareSockets is how many numbers behind the stage the sockets may need.
func (r *restorer) spareSockets() uint64 {
	n := uint64(1)
	for _, f := range r.meta.OpenFiles {
		if f.Socket != nil {
			n += 4 + uint64(len(f.Socket.Queue))
		}
	}
	return n
}

func (t *sockets) newSpare() uint64 {
	t.spares++
	return t.r.stageSpare() + t.spares - 1
}

// peer is the other end, nil where it is closed or outside the job.
func (t *sockets) peer(s *sock) *sock {
	if s.pb.Peer == 0 {
		return nil
	}
	return t.byFile[s.pb.Peer-1]
}

// make makes the sockets, without what waits in them.
func (t *sockets) make() (err error) {
	if len(t.list) == 0 {
		return nil
	}
	if t.scratch, err = os.MkdirTemp("", "esky-sockets-"); err != nil {
		return err
	}
	for _, step := range []func(*sock) error{
		t.makeUnixConnection, t.makeUnixNamed, t.listenUnix, t.makeInetConnection, t.makeInetNamed,
	} {
		for _, s := range t.list {
			if err := step(s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	return t.endHelpers()
}

func (s *sock) String() string {
	if p := unixPath(s.pb.Name); p != "" {
		return "socket " + p
	}
	if hasPort(s.pb.Name) {
		return "socket " + addressOf(s.pb.Name)
	}
	return fmt.Sprintf("socket of file %d", s.file)
}

// fillSockets fills the sockets and gives them their last state.
func (r *restorer) fillSockets() error {
	t := r.sockets
	if len(t.list) == 0 {
		return nil
	}
	if err := t.mapBuffer(); err != nil {
		return err
	}
	for _, step := range []func(*sock) error{
		t.fillUnix, t.fillInet, t.connectWaiting, t.connectDatagram, t.connectInet, t.breakOff, t.shutdown, t.setOptions,
	} {
		for _, s := range t.list {
			if err := step(s); err != nil {
				return fmt.Errorf("put back a %s: %w", s, takenMeanwhile(err))
			}
		}
	}
	for _, path := range append(slices.Collect(maps.Values(t.moved)), t.scratch) {
		if err := os.RemoveAll(path); err != nil {
			r.note("a file of ours is left: %v", err)
		}
	}
	return t.endHelpers()
}

// endHelpers makes their pids free again.
func (t *sockets) endHelpers() error {
	for _, h := range t.helpers {
		if err := kill(h.host); err != nil {
			return err
		}
		s := t.r.seed.script()
		s.add("wait4", unix.SYS_WAIT4, h.nsPid, 0, unix.WALL, 0)
		if err := s.do(); err != nil {
			return err
		}
	}
	clear(t.helpers)
	return nil
}

// as gives a process with that pid: that of the job, once it is made, else a
// helper. Where the pid cannot be had, and for 0, it is one with any pid.
func (t *sockets) as(pid int32) (*task, error) {
	for _, p := range t.r.procs {
		if p.node.Pid == int(pid) {
			return p.task, nil
		}
	}
	if h := t.helpers[pid]; h != nil {
		return h.task, nil
	}
	h, err := t.newHelper(pid)
	if err != nil && pid > 0 {
		return t.as(0)
	}
	if err != nil {
		return nil, err
	}
	t.helpers[pid] = h
	return h.task, nil
}

// binder is the helper whose root is the scratch directory. A name is what
// bind(2) was given, wherever that led.
const binder = -1

func (t *sockets) newHelper(pid int32) (*helper, error) {
	s := t.r.seed.script()
	tids, n := uint64(0), uint64(0)
	if pid > 0 && !ids.Shim() {
		tids, n = s.words(uint64(pid)), 1
	}
	args := s.words(unix.CLONE_FILES|unix.CLONE_VM, 0, 0, 0, 0, 0, 0, 0, tids, n, 0)
	clone := s.add("clone3", unix.SYS_CLONE3, args, 11*8)
	born, err := s.run()
	if err != nil {
		return nil, err
	}
	if err := tracee.SetSigmask(born[0], allButTrap); err != nil {
		return nil, err
	}
	seed := t.r.seed
	h := &helper{&task{host: born[0], pid: born[0], stub: seed.stub, regs: seed.regs, room: areaLen}, uint64(clone.Result)}
	if pid > 0 && ids.Shim() {
		t.r.shim.table.Former = append(t.r.shim.table.Former, ids.Pair{Virtual: pid, Real: int32(born[0])})
	}
	if pid != binder {
		return h, nil
	}
	s = h.script()
	if err := os.MkdirAll(t.home(), 0o700); err != nil {
		return nil, err
	}
	s.add("chdir", unix.SYS_CHDIR, s.string(t.home()))
	if !ids.Shim() {
		s.add("chroot", unix.SYS_CHROOT, s.string("."))
	}
	return h, s.do()
}

// mapBuffer makes room in the seed for the largest of the messages.
func (t *sockets) mapBuffer() error {
	for _, s := range t.list {
		for _, m := range s.pb.Queue {
			t.room = max(t.room, len(m.Data))
		}
	}
	if t.room == 0 {
		return nil
	}
	t.room = (t.room + pageSize - 1) &^ (pageSize - 1)
	s := t.r.seed.script()
	mmap := s.add("mmap", unix.SYS_MMAP, 0, uint64(t.room), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	err := s.do()
	t.buffer = uint64(mmap.Result)
	return err
}

// setOptions sets the options that are not as they are anyway.
func (t *sockets) setOptions(s *sock) error {
	fd, err := t.r.borrow(s.at)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, o := range s.pb.Options {
		level, name := int(o.Level), int(o.Name)
		if have, err := socket.Option(fd, level, name); err == nil && bytes.Equal(have, o.Value) {
			continue
		}
		value := o.Value
		if level == unix.SOL_SOCKET && (name == unix.SO_SNDBUF || name == unix.SO_RCVBUF) && len(value) == 4 {
			// The kernel doubles what it is given (socket(7)).
			value = binary.LittleEndian.AppendUint32(nil, binary.LittleEndian.Uint32(value)/2)
		}
		if err := socket.SetOption(fd, level, name, value); err != nil {
			t.r.note("%s: option %d of level %d is not granted here: %v", s, name, level, err)
		}
	}
	return nil
}

// shutdown closes the directions that were closed.
func (t *sockets) shutdown(s *sock) error {
	if s.pb.Shutdown == 0 || s.pb.State != imagepb.Socket_CONNECTED && s.pb.Type != unix.SOCK_DGRAM {
		return nil
	}
	c := t.r.seed.script()
	c.add("shutdown", unix.SYS_SHUTDOWN, s.at, uint64(s.pb.Shutdown-1)) // 1, 2, 3: SHUT_RD, SHUT_WR, SHUT_RDWR + 1
	return c.do()
}

// home is the directory in which the binder is.
func (t *sockets) home() string {
	if ids.Shim() {
		return filepath.Join(t.scratch, deep)
	}
	return t.scratch
}

// scratchPath is where the binder's name for a path is for all others.
func (t *sockets) scratchPath(name string) string {
	switch {
	case t.moved[name] != "":
		return t.moved[name]
	case ids.Shim():
		return filepath.Join(t.home(), name)
	}
	return filepath.Join(t.scratch, filepath.Clean("/"+name))
}
