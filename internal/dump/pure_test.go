// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
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
		{procfs.Mapping{Path: "/dev/hugepages/x", VmFlags: []string{"rd", "sh", "ht"}}, "files of hugetlbfs"},
		{procfs.Mapping{Path: hugeAnonymous, Deleted: true, VmFlags: []string{"rd", "ht"}}, ""},
		{procfs.Mapping{Path: "/memfd:x", Deleted: true, VmFlags: []string{"rd", "sh", "ht"}}, ""},
		{procfs.Mapping{ProtectionKey: 3}, "protection keys"},
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
	if got, _, err := peekPipe(p[0], 65536); got != nil || err != nil {
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
		if got, _, err := peekPipe(p[0], 65536); string(got) != "onetwo" || err != nil {
			t.Errorf("the pipe holds %q, %v", got, err)
		}
		d := &Dump{sockets: &sockets{}, frozen: &freeze.Job{}}
		s := &jobSocket{dup: pair[0], pb: &imagepb.Socket{Type: unix.SOCK_SEQPACKET}}
		if err := d.peekMessages(s); err != nil || len(s.pb.Queue) != 2 ||
			string(s.pb.Queue[0].Data) != "one" || string(s.pb.Queue[1].Data) != "two" {
			t.Errorf("the socket: %v %v", err, s.pb.Queue)
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

// TestTicksThen: ticks of the pause are none of the image's.
func TestTicksThen(t *testing.T) {
	for _, c := range []struct {
		left, interval int64
		ticks          uint64
		wantLeft       int64
		wantTicks      uint64
	}{
		{20, 30, 3, 20, 3},
		{30, 30, 3, 30, 3},
		{31, 30, 3, 1, 2},
		{170, 30, 9, 20, 4},
		{170, 0, 0, 170, 0},  // not periodic
		{600, 70, 0, 600, 0}, // its first time is far off
		{0, 30, 3, 0, 3},     // it does not run
	} {
		if left, ticks := ticksThen(c.left, c.interval, c.ticks); left != c.wantLeft || ticks != c.wantTicks {
			t.Errorf("%+v: %d left, %d ticks", c, left, ticks)
		}
	}
}
