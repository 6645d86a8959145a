// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const statusText = "Name:\ta\\nb\\\\n c\nUmask:\t0027\nState:\tT (stopped)\nTgid:\t20\nNgid:\t0\nPid:\t21\nPPid:\t7\nTracerPid:\t9\n" +
	"Uid:\t1000\t1001\t1002\t4294967294\nGid:\t1\t2\t3\t4\nFDSize:\t64\nGroups:\t4 24 65534 \nNStgid:\t20\t2\nNSpid:\t21\t3\nNSpgid:\t20\t2\nNSsid:\t20\t2\n" +
	"VmSize:\t    2260 kB\nVmLck:\t       4 kB\nVmRSS:\t     100 kB\nVmSwap:\t       8 kB\nThreads:\t2\nSigQ:\t3/18446744073709551615\n" +
	"SigPnd:\t0000000000000001\nShdPnd:\t0000000000000200\nSigBlk:\tfffffffe7ffbfeff\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180014a07\n" +
	"CapInh:\t0000000000000001\nCapPrm:\t0000000000000002\nCapEff:\t000001ffffffffff\nCapBnd:\t0000000000000004\nCapAmb:\t0000000000000008\n" +
	"NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nSpeculation_Store_Bypass:\tthread vulnerable\n" +
	"Cpus_allowed:\t1ff\nCpus_allowed_list:\t0-3,8\nMems_allowed_list:\t0\nx86_Thread_features:\tshstk \n"

func TestParseStatus(t *testing.T) {
	want := Status{
		Name: "a\nb\\n c", Umask: 0o27, State: 'T', Tgid: 20, Pid: 21, PPid: 7, TracerPid: 9,
		Uid: [4]int{1000, 1001, 1002, 4294967294}, Gid: [4]int{1, 2, 3, 4}, Groups: []int{4, 24, 65534}, NSpid: []int{21, 3}, NSpgid: []int{20, 2}, NSsid: []int{20, 2},
		Threads: 2, SigQ: 3, SigQLimit: -1, SigPnd: 1, ShdPnd: 0x200, SigBlk: 0xfffffffe7ffbfeff, SigIgn: 0x1000, SigCgt: 0x180014a07,
		CapInh: 1, CapPrm: 2, CapEff: 0x1ffffffffff, CapBnd: 4, CapAmb: 8, NoNewPrivs: true, Seccomp: 2,
		VmRSS: 100 << 10, VmSwap: 8 << 10, VmLck: 4 << 10, CpusAllowedList: "0-3,8", MemsAllowedList: "0", ThreadFeatures: "shstk",
	}
	got, err := ParseStatus(strings.NewReader(statusText))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	cpus, err := got.CPUs()
	if d := cmp.Diff([]int{0, 1, 2, 3, 8}, cpus); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestParseStatusErrors(t *testing.T) {
	for _, in := range []string{
		"", "Name:\ta\n", "Pid:\t1", "Pid:\tx\n", "Pid:\t1\njunk\n", "Pid:\t1\nUid:\t1\t2\t3\n",
		"Pid:\t1\nSigBlk:\t0g\n", "Pid:\t1\nSigQ:\t3\n", "Pid:\t1\nGroups:\t1 x\n", "Pid:\t1\nUmask:\t0088\n", "Pid:\t1\nGid:\t1 2 3 4294967296\n",
	} {
		if s, err := ParseStatus(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %+v", in, s)
		}
	}
}

func TestReadStatusSelf(t *testing.T) {
	s, err := ReadStatus(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.Pid != os.Getpid() || s.Uid[1] != os.Geteuid() || s.Threads == 0 || s.NSpid[0] != os.Getpid() || s.VmRSS == 0 {
		t.Errorf("status of this process is %+v", s)
	}
}

func TestParseCPUList(t *testing.T) {
	tests := []struct {
		in   string
		want []int
		bad  bool
	}{
		{"", nil, false},
		{"0", []int{0}, false},
		{"0,2-4,7", []int{0, 2, 3, 4, 7}, false},
		{"3-1", nil, true},
		{"0,", nil, true},
		{"a", nil, true},
		{"0-4294967295", nil, true},
	}
	for _, tt := range tests {
		got, err := ParseCPUList(tt.in)
		if d := cmp.Diff(tt.want, got); d != "" || (err != nil) != tt.bad {
			t.Errorf("%q: %s, error %v", tt.in, d, err)
		}
	}
}
