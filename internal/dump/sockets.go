// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

// sockets are the sockets of the job. Every socket has one open file
// description, so there is one of these for each file that is a socket.
type sockets struct {
	list  []*jobSocket
	byIno map[uint64]*jobSocket
	diag  *socket.Diag
	// flying are our copies of descriptors that were on their way in a socket.
	flying []int
	buf    []byte
	// waits says whose connection has not been accepted yet, by inode.
	waits map[uint32]bool
	tcp   []socket.Row // all of the host, once they were asked for
	// connected are the job's ends of TCP connections, unaccepted those that nobody
	// on the host has accepted yet; see farEnd, acceptsLater.
	connected  map[socket.Connection]*jobSocket
	unaccepted map[socket.Connection]socket.Row
}

// jobSocket is a socket of the job.
type jobSocket struct {
	*file
	dup  int // a duplicate of its descriptor, in this process
	pb   *imagepb.Socket
	unix socket.Unix
}

// openSockets duplicates the job's sockets into this process and copies what
// waits in unix sockets: descriptors among it are more files of the job, maybe
// more sockets.
func (d *Dump) openSockets() error {
	d.sockets = &sockets{byIno: map[uint64]*jobSocket{}, waits: map[uint32]bool{}}
	for i := 0; i < len(d.files.list); i++ {
		f := d.files.list[i]
		if f.st.Mode&unix.S_IFMT != unix.S_IFSOCK || f.info.Flags&unix.O_PATH != 0 {
			continue
		}
		if _, given := d.files.stream(f); given {
			continue
		}
		if err := d.openSocket(f); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	for _, s := range d.sockets.list {
		for _, client := range s.unix.Waiting {
			d.sockets.waits[client] = true
		}
	}
	return nil
}

func (d *Dump) openSocket(f *file) (err error) {
	s := &jobSocket{file: f, pb: &imagepb.Socket{}}
	if s.dup, err = f.borrow(); err != nil {
		return err
	}
	d.sockets.list = append(d.sockets.list, s)
	d.sockets.byIno[f.st.Ino] = s
	f.pb.Socket = s.pb
	for option, to := range map[int]*int32{unix.SO_DOMAIN: &s.pb.Domain, unix.SO_TYPE: &s.pb.Type, unix.SO_PROTOCOL: &s.pb.Protocol} {
		v, err := unix.GetsockoptInt(s.dup, unix.SOL_SOCKET, option)
		if err != nil {
			return fmt.Errorf("socket option %d: %w", option, err)
		}
		*to = int32(v)
	}
	if s.pb.Domain != unix.AF_UNIX {
		return nil
	}
	if d.sockets.diag == nil {
		if d.sockets.diag, err = socket.OpenDiag(); err != nil {
			return err
		}
	}
	s.unix, err = d.sockets.diag.Unix(uint32(f.st.Ino))
	if errors.Is(err, socket.ErrNotUnix) {
		return &RefusedError{Reasons: []string{fmt.Sprintf("%s: the kernel does not tell of it: "+
			"it lacks its module unix_diag (modprobe unix_diag), or this is a socket of another network namespace", f)}}
	}
	if err != nil {
		return err
	}
	if s.unix.State == socket.Listening {
		return nil
	}
	return d.peekMessages(s)
}

// closeSockets closes what openSockets has opened.
func (d *Dump) closeSockets() {
	if d.sockets == nil {
		return
	}
	for _, s := range d.sockets.list {
		unix.Close(s.dup)
	}
	for _, fd := range d.sockets.flying {
		unix.Close(fd)
	}
	if d.sockets.diag != nil {
		d.sockets.diag.Close()
	}
	d.sockets.list, d.sockets.flying, d.sockets.buf = nil, nil, nil
}

// describeSockets notes how the sockets are to be made again.
func (d *Dump) describeSockets() error {
	for _, s := range d.sockets.list {
		var why string
		var err error
		if s.pb.Options, err = readOptions(s.dup, s.pb); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		switch s.pb.Domain {
		case unix.AF_UNIX:
			why, err = d.describeUnix(s)
		case unix.AF_INET, unix.AF_INET6:
			why, err = d.describeInet(s)
		default:
			why = refuseDomain(s.pb.Domain)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if why != "" {
			d.refuseSocket(s.file, why)
		}
	}
	return nil
}

// Connections that wait to be accepted: what was sent on one can be read by
// nobody before that.
const (
	sentBeforeAccept = "a connection waits to be accepted, and data was sent on it already: let the server accept it"
	madeAndClosed    = "a connection that its maker has closed again waits to be accepted: let the server accept it"
)

func (d *Dump) refuseSocket(f *file, why string) {
	if why == sentBeforeAccept || why == madeAndClosed {
		d.files.passing++
	}
	d.files.refused = append(d.files.refused, fmt.Sprintf("%s: %s", f, why))
}

// refuseDomain names the family of a socket that cannot be carried
// (address_families(7)).
func refuseDomain(domain int32) string {
	names := map[int32]string{
		unix.AF_NETLINK: "netlink", unix.AF_PACKET: "packet", unix.AF_VSOCK: "vsock", unix.AF_ALG: "kernel crypto (AF_ALG)",
		unix.AF_BLUETOOTH: "bluetooth", unix.AF_CAN: "CAN", unix.AF_XDP: "XDP", unix.AF_RDS: "RDS", unix.AF_TIPC: "TIPC",
	}
	if name := names[domain]; name != "" {
		return name + " sockets are not carried: close it before the checkpoint"
	}
	return fmt.Sprintf("sockets of family %d are not carried: close it before the checkpoint", domain)
}

// other is the reference to the socket with that inode: 1 + its index, 0 where
// it is not of the job.
func (t *sockets) other(ino uint64) uint32 {
	if s := t.byIno[ino]; s != nil {
		return s.index + 1
	}
	return 0
}

// inFlight takes a descriptor that the kernel has given us a copy of for a file
// of the job: one that it has anyway, or one that exists only on its way.
func (d *Dump) inFlight(s *jobSocket, fd int) (uint32, error) {
	f := &file{hostPid: os.Getpid(), pid: s.pid, comm: s.comm, fd: fd}
	if err := f.read(); err != nil {
		return 0, err
	}
	known, err := d.files.intern(f)
	if err != nil {
		return 0, err
	}
	if known != f {
		unix.Close(fd)
		return known.index, nil
	}
	f.flying = true
	d.sockets.flying = append(d.sockets.flying, fd)
	return f.index, nil
}

// jobPid translates a pid of this namespace; 0 is a process that the job has not.
func (d *Dump) jobPid(hostPid int) int32 {
	for _, p := range d.frozen.Processes {
		if p.HostPid == hostPid {
			return int32(p.Pid)
		}
	}
	if known := ids.Virtual(hostPid); known != hostPid { // of one that has ended
		return int32(known)
	}
	return 0
}

// broken says that an error waits for the next call on the socket.
func (s *jobSocket) poll() (events int16, err error) {
	p := []unix.PollFd{{Fd: int32(s.dup), Events: unix.POLLIN | unix.POLLOUT | unix.POLLRDHUP}}
	_, err = unix.Poll(p, 0)
	return p[0].Revents, err
}

// readOptions reads those of the options that this kind of socket has.
func readOptions(fd int, pb *imagepb.Socket) ([]*imagepb.SocketOption, error) {
	var all []*imagepb.SocketOption
	for _, o := range socket.Options(int(pb.Domain), int(pb.Type), int(pb.Protocol)) {
		v, err := socket.Option(fd, o.Level, o.Name)
		switch err {
		case nil:
			all = append(all, &imagepb.SocketOption{Level: int32(o.Level), Name: int32(o.Name), Value: slices.Clone(v)})
		case unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.ENOTCONN, unix.EINVAL, unix.EPERM: // this kernel, or this kind, has it not
		default:
			return nil, fmt.Errorf("socket option %d of level %d: %w", o.Name, o.Level, err)
		}
	}
	return socket.SetByUser(all), nil
}
