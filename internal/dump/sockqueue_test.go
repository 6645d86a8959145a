// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// TestPeekDescriptors: descriptors come with the last of their bytes of a stream,
// each open file description once.
func TestPeekDescriptors(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for _, m := range []struct {
		data string
		fds  []int
	}{{"before", nil}, {"with", []int{fd, fd}}, {"behind", nil}, {"x", []int{fd}}, {"end", nil}} {
		var control []byte
		if m.fds != nil {
			control = unix.UnixRights(m.fds...)
		}
		if err := unix.Sendmsg(pair[0], []byte(m.data), control, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		d := &Dump{sockets: &sockets{}, frozen: &freeze.Job{}, files: newFileTable(freeze.Tree{Init: os.Getpid()})}
		s := &jobSocket{file: &file{}, dup: pair[1], pb: &imagepb.Socket{Type: unix.SOCK_STREAM}}
		if err := d.peekMessages(s); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range s.pb.Queue {
			got = append(got, string(m.Data))
			if want := map[string]int{"h": 2, "x": 1}[string(m.Data)]; len(m.OpenFiles) != want {
				t.Errorf("%q comes with %d descriptors, not %d", m.Data, len(m.OpenFiles), want)
			}
		}
		if diff := cmp.Diff([]string{"beforewit", "h", "behind", "x", "end"}, got); diff != "" {
			t.Errorf("the queue: %s", diff)
		}
		if len(d.files.list) != 1 || len(d.sockets.flying) != 1 {
			t.Errorf("%d files, %d copies of descriptors", len(d.files.list), len(d.sockets.flying))
		}
		d.closeSockets()
	}
}
