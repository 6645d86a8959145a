// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// upgradeSockets describes the socket pairs of an older image as it is done now.
func upgradeSockets(meta *imagepb.Image) {
	at := map[[2]uint32]uint32{} // of pair and end, the file
	for i, f := range meta.OpenFiles {
		if f.Kind == imagepb.OpenFile_SOCKET && f.Socket == nil {
			at[[2]uint32{f.SocketPair, f.SocketEnd}] = uint32(i)
		}
	}
	for _, f := range meta.OpenFiles {
		if f.Kind != imagepb.OpenFile_SOCKET || f.Socket != nil || int(f.SocketPair) >= len(meta.SocketPairs) {
			continue
		}
		pair := meta.SocketPairs[f.SocketPair]
		if int(f.SocketEnd) >= len(pair.Ends) {
			continue
		}
		f.Socket = upgradeEnd(pair.Type, pair.Ends[f.SocketEnd])
		if other, ok := at[[2]uint32{f.SocketPair, 1 - f.SocketEnd}]; ok {
			f.Socket.Peer = other + 1
		}
	}
}

func upgradeEnd(kind int32, e *imagepb.SocketEnd) *imagepb.Socket {
	s := &imagepb.Socket{Domain: unix.AF_UNIX, Type: kind, State: imagepb.Socket_CONNECTED, Shutdown: e.Shutdown}
	for _, m := range e.Queue {
		s.Queue = append(s.Queue, &imagepb.SocketMessage{Data: m})
	}
	number := func(name int, v uint32) {
		s.Options = append(s.Options, &imagepb.SocketOption{
			Level: unix.SOL_SOCKET, Name: int32(name), Value: binary.LittleEndian.AppendUint32(nil, v)})
	}
	number(unix.SO_SNDBUF, e.Sndbuf)
	number(unix.SO_RCVBUF, e.Rcvbuf)
	for name, ns := range map[int32]int64{unix.SO_RCVTIMEO: e.RcvtimeoNs, unix.SO_SNDTIMEO: e.SndtimeoNs} {
		tv := unix.NsecToTimeval(ns)
		v := binary.LittleEndian.AppendUint64(nil, uint64(tv.Sec))
		s.Options = append(s.Options, &imagepb.SocketOption{
			Level: unix.SOL_SOCKET, Name: name, Value: binary.LittleEndian.AppendUint64(v, uint64(tv.Usec))})
	}
	if e.Passcred {
		number(unix.SO_PASSCRED, 1)
	}
	return s
}
