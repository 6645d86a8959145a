// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/socket"
	"github.com/esky-hpc/esky/internal/tracee"
)

// describeUnix notes a unix socket; why is the reason where it cannot be carried.
func (d *Dump) describeUnix(s *jobSocket) (why string, err error) {
	pb := s.pb
	pb.Shutdown = s.unix.Shutdown
	if pb.Name, err = socket.Name(s.dup); err != nil {
		return "", fmt.Errorf("name: %w", err)
	}
	if pb.PeerName, err = socket.PeerName(s.dup); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return "", fmt.Errorf("name of the other end: %w", err)
	}
	if cred, err := unix.GetsockoptUcred(s.dup, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		pb.PeerPid = d.jobPid(int(cred.Pid))
		if pb.PeerPid == 0 && !s.flying {
			d.credsOf = append(d.credsOf, s.file)
		}
	}
	switch {
	case s.unix.State == socket.Listening:
		pb.State, pb.Backlog = imagepb.Socket_LISTENING, s.unix.Backlog
		if why := d.describeWaiting(s); why != "" {
			return why, nil
		}
	case s.unix.Connected:
		d.describeUnixPeer(s)
	}
	if pb.State == imagepb.Socket_LISTENING || pb.State == imagepb.Socket_IDLE || pb.Type == unix.SOCK_DGRAM {
		return "", d.findSocketFile(s)
	}
	return "", nil
}

// askCredentials has the job itself ask for the peers' pids that are those of no
// process any more: in its own namespace they still have a number.
func (d *Dump) askCredentials() error {
	for _, f := range d.credsOf {
		for _, q := range d.procs {
			if q.Eye != f.hostPid {
				continue
			}
			cred, err := q.peerCred(f.fd)
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			f.pb.Socket.PeerPid = int32(ids.Virtual(int(cred)))
		}
	}
	return nil
}

// peerCred is the pid of SO_PEERCRED as the process sees it.
func (q *process) peerCred(fd int) (int32, error) {
	const credLen = 12
	at := q.stub.Area + dataAt
	if err := q.mem.WriteAt(append(make([]byte, 16), credLen, 0, 0, 0), at); err != nil {
		return 0, err
	}
	ask := tracee.Sys("getsockopt", unix.SYS_GETSOCKOPT, uint64(fd), unix.SOL_SOCKET, unix.SO_PEERCRED, at, at+16)
	if err := q.batch(q.Leader(), 0, ask).Run(q.stub.Code); err != nil {
		return 0, err
	}
	b := make([]byte, 4)
	if err := q.mem.ReadAt(b, at); err != nil {
		return 0, err
	}
	return int32(le32(b)), nil
}

// describeUnixPeer notes the other end, and an error that was reported by none yet.
func (d *Dump) describeUnixPeer(s *jobSocket) {
	s.pb.State, s.pb.Peer = imagepb.Socket_CONNECTED, d.sockets.other(uint64(s.unix.PeerIno))
	if s.pb.Peer == 0 && s.unix.PeerIno != 0 {
		s.pb.State = imagepb.Socket_RESET
	}
	if events, err := s.poll(); err == nil && events&unix.POLLERR != 0 {
		s.pb.Broken = true
	}
}

// describeWaiting notes whose connections wait to be accepted. What they have
// sent can be read by nobody before that.
func (d *Dump) describeWaiting(s *jobSocket) string {
	for _, ino := range s.unix.Waiting {
		client := d.sockets.byIno[uint64(ino)]
		switch {
		case client != nil:
			if n, err := unix.IoctlGetInt(client.dup, unix.TIOCOUTQ); err != nil || n != 0 {
				return sentBeforeAccept
			}
			s.pb.Waiting = append(s.pb.Waiting, client.index+1)
		case ino == 0:
			return madeAndClosed
		}
	}
	return ""
}

// findSocketFile looks for the file of a socket whose name is a path. It may
// have been removed, and another socket may have that name now.
func (d *Dump) findSocketFile(s *jobSocket) error {
	name := unixPath(s.pb.Name)
	if name == "" || s.unix.FileIno == 0 {
		return nil
	}
	bases := []string{"/"}
	if !filepath.IsAbs(name) {
		bases = nil
		for _, p := range d.procs {
			if cwd, err := procfs.Link(p.Eye, "cwd"); err == nil {
				bases = append(bases, cwd)
			}
		}
	}
	for _, base := range bases {
		at := name
		if !filepath.IsAbs(name) {
			at = base + "/" + name
		}
		var st unix.Stat_t
		if unix.Lstat(at, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK && uint32(st.Ino) == s.unix.FileIno {
			s.pb.Path, s.pb.Mode = at, st.Mode&0o7777
			return nil
		}
	}
	return nil
}

// unixPath is the path in a struct sockaddr_un, empty for an abstract name
// (unix(7)).
func unixPath(name []byte) string {
	if len(name) < 3 || name[2] == 0 {
		return ""
	}
	path, _, _ := bytes.Cut(name[2:], []byte{0})
	return string(path)
}
