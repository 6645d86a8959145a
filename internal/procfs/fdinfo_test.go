// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseFdInfo(t *testing.T) {
	const head = "pos:\t42\nflags:\t02100002\nmnt_id:\t15\nino:\t1060\n"
	base := FdInfo{Pos: 42, Flags: 0o2100002, MntID: 15, Ino: 1060}
	with := func(f func(*FdInfo)) FdInfo { i := base; f(&i); return i }
	tests := []struct {
		name, in string
		want     FdInfo
	}{
		{"plain", "", base},
		{"eventfd", "eventfd-count:               1f\neventfd-id: 3\neventfd-semaphore: 1\n", with(func(i *FdInfo) {
			i.Eventfd, i.EventfdCount, i.EventfdSemaphore = true, 0x1f, true
		})},
		{"epoll", "tfd:        5 events:       19 data: ffffffff00000005  pos:7 ino:424 sdev:9\ntfd:        6 events: 80000001 data:                6\n", with(func(i *FdInfo) {
			i.Epoll = []EpollItem{{TFD: 5, Events: 0x19, Data: 0xffffffff00000005, Pos: 7, Ino: 0x424, Sdev: 9}, {TFD: 6, Events: 0x80000001, Data: 6}}
		})},
		{"signalfd", "sigmask:\t0000000000000200\n", with(func(i *FdInfo) { i.Signalfd, i.Sigmask = true, 0x200 })},
		{"timerfd", "clockid: 1\nticks: 3\nsettime flags: 01\nit_value: (4, 500000000)\nit_interval: (0, 7)\n", with(func(i *FdInfo) {
			i.Timerfd = &Timerfd{Clockid: 1, Ticks: 3, SettimeFlags: 1, ValueNs: 4_500_000_000, IntervalNs: 7}
		})},
		{"locks", "lock:\t1: FLOCK  ADVISORY  WRITE 2211 08:01:131 0 EOF\nlock:\t2: POSIX  ADVISORY  READ  2211 fd:10:99 5 9\nlock:\t3: -> OFDLCK ADVISORY  WRITE -1 <none>:0 0 EOF\n", with(func(i *FdInfo) {
			i.Locks = []Lock{
				{Type: "FLOCK", Mode: "ADVISORY", Exclusive: true, Pid: 2211, Dev: unix.Mkdev(8, 1), Ino: 131, End: math.MaxInt64},
				{Type: "POSIX", Mode: "ADVISORY", Pid: 2211, Dev: unix.Mkdev(0xfd, 0x10), Ino: 99, Start: 5, End: 9},
				{Type: "OFDLCK", Mode: "ADVISORY", Exclusive: true, Pid: -1, End: math.MaxInt64, Blocked: true},
			}
		})},
		{"inotify", "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:aabb\ninotify wd:2a ino:2 sdev:3 mask:80000004 ignored_mask:0 \n", with(func(i *FdInfo) {
			i.Inotify = []InotifyWatch{{Wd: 1, Ino: 2, Sdev: 3, Mask: 4}, {Wd: 0x2a, Ino: 2, Sdev: 3, Mask: 0x80000004}}
		})},
		{"pidfd", "Pid:\t-1\nNSpid:\t-1\n", with(func(i *FdInfo) { i.Pid = -1 })},
		{"socket", "scm_fds: 2\n", with(func(i *FdInfo) { i.ScmFds = 2 })},
		{"unknown", "SqEntries:\t8\nclock ticks: 4\n", with(func(i *FdInfo) { i.Unknown = []string{"SqEntries:\t8", "clock ticks: 4"} })},
		{"timer fields alone", "ticks: 3\n", with(func(i *FdInfo) { i.Unknown = []string{"ticks: 3"} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseFdInfo(strings.NewReader(head + tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseFdInfoErrors(t *testing.T) {
	const head = "pos:\t0\nflags:\t02\n"
	for _, in := range []string{
		"", "pos:\t0\n", "flags:\t02\n", "pos:\t0\nflags:\t02", head + "junk\n", head + "eventfd-count: xyz\n",
		head + "lock:\t1: POSIX ADVISORY MAYBE 1 08:01:1 0 EOF\n", head + "lock:\t1: POSIX ADVISORY WRITE 1 08:01 0 EOF\n", head + "lock:\t1: POSIX ADVISORY WRITE 1 08:01:1 0\n",
		head + "clockid: 1\nit_value: 4, 5\n", head + "clockid: 1\nit_value: (9223372036854775807, 0)\n", head + "clockid: 1\nit_value: (1, 1000000000)\n",
		head + "tfd: 5 events\n", head + "tfd: 5 data: zz\n", "pos:\t0\nflags:\t09\n",
	} {
		if i, err := ParseFdInfo(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %+v", in, i)
		}
	}
}
