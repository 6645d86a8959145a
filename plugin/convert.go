// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"github.com/esky-hpc/esky/plugin/wire"
)

func toBytes(in []string) [][]byte {
	out := make([][]byte, 0, len(in))
	for _, s := range in {
		out = append(out, []byte(s))
	}
	return out
}

func toStrings(in [][]byte) []string {
	out := make([]string, 0, len(in))
	for _, b := range in {
		out = append(out, string(b))
	}
	return out
}

func toStreams(s Streams) *wire.Streams {
	return &wire.Streams{Stdin: []byte(s.Stdin), Stdout: []byte(s.Stdout), Stderr: []byte(s.Stderr)}
}

func fromStreams(s *wire.Streams) Streams {
	return Streams{Stdin: Stream(s.GetStdin()), Stdout: Stream(s.GetStdout()), Stderr: Stream(s.GetStderr())}
}

func toHandle(h Handle) *wire.Handle {
	return &wire.Handle{Provider: h.Provider, Version: uint32(h.Version), Pid: int64(h.Pid), Data: h.Data}
}

func fromHandle(h *wire.Handle) Handle {
	return Handle{Provider: h.GetProvider(), Version: int(h.GetVersion()), Pid: int(h.GetPid()), Data: h.GetData()}
}

func toImage(i Image) *wire.Image {
	w := &wire.Image{
		Dir: []byte(i.Dir), Bytes: i.Bytes, PauseNs: int64(i.Pause), TookNs: int64(i.Took),
		Notes: i.Notes, Command: toBytes(i.Command), About: i.About,
	}
	if !i.Created.IsZero() {
		w.CreatedUnixNs = i.Created.UnixNano()
	}
	return w
}

func fromImage(w *wire.Image) Image {
	i := Image{
		Dir: string(w.GetDir()), Bytes: w.GetBytes(), Pause: time.Duration(w.GetPauseNs()), Took: time.Duration(w.GetTookNs()),
		Notes: w.GetNotes(), Command: toStrings(w.GetCommand()), About: w.GetAbout(),
	}
	if ns := w.GetCreatedUnixNs(); ns != 0 {
		i.Created = time.Unix(0, ns)
	}
	return i
}
