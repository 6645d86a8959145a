// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
)

func TestWithout(t *testing.T) {
	r := func(v ...uint64) (all []pages.Range) {
		for i := 0; i < len(v); i += 2 {
			all = append(all, pages.Range{Start: v[i], End: v[i+1]})
		}
		return all
	}
	for name, c := range map[string]struct {
		r            pages.Range
		others, want []pages.Range
	}{
		"of nothing":        {pages.Range{Start: 1, End: 9}, nil, r(1, 9)},
		"apart":             {pages.Range{Start: 1, End: 9}, r(9, 20, 0, 1), r(1, 9)},
		"all":               {pages.Range{Start: 1, End: 9}, r(1, 9), nil},
		"more than all":     {pages.Range{Start: 1, End: 9}, r(0, 20), nil},
		"the beginning":     {pages.Range{Start: 1, End: 9}, r(1, 4), r(4, 9)},
		"the end":           {pages.Range{Start: 1, End: 9}, r(4, 20), r(1, 4)},
		"the middle":        {pages.Range{Start: 1, End: 9}, r(3, 4), r(1, 3, 4, 9)},
		"two that overlap":  {pages.Range{Start: 1, End: 9}, r(2, 5, 4, 6), r(1, 2, 6, 9)},
		"all but by pieces": {pages.Range{Start: 1, End: 9}, r(5, 9, 1, 3, 3, 5), nil},
	} {
		if diff := cmp.Diff(c.want, without(c.r, c.others)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestCovers(t *testing.T) {
	maps := []procfs.Mapping{
		{Start: 0x1000, End: 0x2000, Perms: "r-xp"}, {Start: 0x2000, End: 0x3000, Perms: "rw-p"}, {Start: 0x3000, End: 0x4000, Perms: "rw-p"},
		{Start: 0x5000, End: 0x6000, Perms: "rw-p"},
	}
	for name, c := range map[string]struct {
		start, end uint64
		prot       int
		want       bool
	}{
		"one":            {0x1000, 0x2000, unix.PROT_EXEC, true},
		"a part":         {0x1100, 0x1200, unix.PROT_EXEC, true},
		"two":            {0x2800, 0x3800, unix.PROT_WRITE, true},
		"a hole":         {0x3800, 0x5800, unix.PROT_WRITE, false},
		"not writable":   {0x1800, 0x2800, unix.PROT_WRITE, false},
		"nothing":        {0x9000, 0x9100, unix.PROT_READ, false},
		"beyond the end": {0x5000, 0x7000, unix.PROT_WRITE, false},
	} {
		if got := covers(maps, c.start, c.end, c.prot); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRefuseMap(t *testing.T) {
	for _, c := range []struct {
		m    procfs.Mapping
		want string // part of the reason, "" for none
	}{
		{procfs.Mapping{Path: "/usr/lib/libc.so.6"}, ""},
		{procfs.Mapping{Path: "[heap]"}, ""},
		{procfs.Mapping{Path: "/dev/zero", Deleted: true}, ""},
		{procfs.Mapping{Path: "/dev/shm/x"}, ""},
		{procfs.Mapping{Path: "[vvar]", VmFlags: []string{"rd", "pf", "io"}}, ""},
		{procfs.Mapping{VmFlags: []string{"rd", "ht"}}, "huge pages"},
		{procfs.Mapping{Path: "/dev/nvidia0"}, "GPU"},
		{procfs.Mapping{Path: "/x", VmFlags: []string{"io"}}, "device"},
		{procfs.Mapping{VmFlags: []string{"um"}}, "userfaultfd"},
		{procfs.Mapping{VmFlags: []string{"ss"}}, "shadow"},
		{procfs.Mapping{Path: "/SYSV00000000", Deleted: true}, ""},
		{procfs.Mapping{Path: "anon_inode:[io_uring]"}, "io_uring"},
	} {
		got := refuseMap(&c.m)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c.m, got)
		}
	}
}

// diag is an answer of sock_diag(7) about a unix socket.
func diag(kind, state byte, attrs ...[]byte) []byte {
	b := make([]byte, nlHeader+diagMsg)
	binary.LittleEndian.PutUint16(b[4:], sockDiagByFamily)
	b[nlHeader], b[nlHeader+1], b[nlHeader+2] = unix.AF_UNIX, kind, state
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

func attr(kind uint16, v ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, uint16(4+len(v)))
	b = append(binary.LittleEndian.AppendUint16(b, kind), v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestParseDiag(t *testing.T) {
	peer := attr(attrPeer, 0x15, 0xcd, 0x5b, 0x07)
	const established = 1
	for name, c := range map[string]struct {
		b    []byte
		want unixSocket
		bad  bool
	}{
		"a pair":                 {diag(unix.SOCK_STREAM, established, peer), unixSocket{unix.SOCK_STREAM, 123456789, 0}, false},
		"half closed":            {diag(unix.SOCK_STREAM, established, peer, attr(attrShutdown, 2)), unixSocket{unix.SOCK_STREAM, 123456789, 2}, false},
		"the other end is gone":  {diag(unix.SOCK_STREAM, established, attr(attrShutdown, 3)), unixSocket{unix.SOCK_STREAM, 0, 3}, false},
		"datagrams, peer gone":   {diag(unix.SOCK_DGRAM, 7), unixSocket{unix.SOCK_DGRAM, 0, 0}, false},
		"an attribute we do not": {diag(unix.SOCK_STREAM, established, attr(77, 1, 2, 3), peer), unixSocket{unix.SOCK_STREAM, 123456789, 0}, false},
		"with a name":            {diag(unix.SOCK_STREAM, established, attr(attrName, '/', 'x'), peer), unixSocket{}, true},
		"a listener":             {diag(unix.SOCK_STREAM, stateListen), unixSocket{}, true},
		"not connected":          {diag(unix.SOCK_STREAM, 7), unixSocket{}, true},
		"no answer":              {make([]byte, 36), unixSocket{}, true},
		"nothing":                {nil, unixSocket{}, true},
		"cut off":                {diag(unix.SOCK_STREAM, established, peer[:6]), unixSocket{}, true},
	} {
		got, err := parseDiag(c.b)
		if c.bad != errors.Is(err, errNotAPair) || err == nil && got != c.want {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// TestUnixDiag asks the kernel about a pair of our own.
func TestUnixDiag(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	var st [2]unix.Stat_t
	for i, fd := range fds {
		defer unix.Close(fd)
		if err := unix.Fstat(fd, &st[i]); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openUnixDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	s, err := d.socket(uint32(st[0].Ino))
	if err != nil || s.peer != uint32(st[1].Ino) || s.kind != unix.SOCK_SEQPACKET {
		t.Errorf("%+v %v, want peer %d", s, err, st[1].Ino)
	}
}

// TestPeeks: what waits in a pipe or a socket is copied and stays there.
func TestPeeks(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range append(pair[:], p[:]...) {
		defer unix.Close(fd)
	}
	if got, err := peekPipe(p[0], 65536); got != nil || err != nil {
		t.Errorf("an empty pipe holds %q, %v", got, err)
	}
	for _, s := range []string{"one", "two"} {
		for _, fd := range []int{p[1], pair[1]} {
			if _, err := unix.Write(fd, []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if got, err := peekPipe(p[0], 65536); string(got) != "onetwo" || err != nil {
			t.Errorf("the pipe holds %q, %v", got, err)
		}
		got, err := peekSocket(pair[0], unix.SOCK_SEQPACKET)
		if diff := cmp.Diff([][]byte{[]byte("one"), []byte("two")}, got); diff != "" || err != nil {
			t.Errorf("the socket: %v %s", err, diff)
		}
	}
}

func TestDecodeItimer(t *testing.T) {
	var b []byte
	for _, v := range []uint64{1, 500, 2, 250} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if got := decodeItimer(b, 1000); got.IntervalNs != 1_000_500_000 || got.ValueNs != 2_000_250_000 {
		t.Error(got)
	}
}

func TestSigaction(t *testing.T) {
	a := &imagepb.SigAction{Handler: 1, Flags: 2, Restorer: 3, Mask: 4}
	b := encodeSigaction(a)
	if got := decodeSigaction(b); len(b) != sigactionLen || got.Handler != 1 || got.Flags != 2 || got.Restorer != 3 || got.Mask != 4 {
		t.Error(got, len(b))
	}
}
