// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const statTail = " S 1 2 3 -4 5 4194560 6 7 8 9 110 11 12 13 -20 -5 14 15 1600 17 18 18446744073709551615 " +
	"19 20 21 22 23 24 25 26 27 28 29 30 17 31 32 33 34 35 36 37 38 39 40 41 42 43 256\n"

const statLine = "2211 (sleep)" + statTail

func TestParseStat(t *testing.T) {
	want := Stat{
		Pid: 2211, State: 'S', Ppid: 1, Pgrp: 2, Session: 3, TtyNr: -4, Tpgid: 5, Flags: 4194560,
		Utime: 110, Stime: 11, Priority: -20, Nice: -5, Threads: 14, Starttime: 1600,
		StartCode: 19, EndCode: 20, StartStack: 21, ExitSignal: 17, Processor: 31, RtPriority: 32, Policy: 33,
		StartData: 37, EndData: 38, StartBrk: 39, ArgStart: 40, ArgEnd: 41, EnvStart: 42, EnvEnd: 43, ExitCode: 256,
	}
	for _, comm := range []string{"sleep", "", "a b", "a) S 7 (b", "a\nb", ") (", "(sd-pam)", "\xff\xfe"} {
		want.Comm = comm
		got, err := ParseStat(strings.NewReader("2211 (" + comm + ")" + statTail))
		if err != nil {
			t.Errorf("comm %q: %v", comm, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("comm %q: %s", comm, d)
		}
	}
	if got := want.CPU(); got != 1210*time.Millisecond {
		t.Errorf("CPU time %v", got)
	}
}

func TestParseStatErrors(t *testing.T) {
	for _, in := range []string{"", "\n", "2211 (sleep", "2211 sleep) S 1\n", "x (a)" + statTail, "1 (a) SS 1\n", "99999999999 (a)" + statTail} {
		if s, err := ParseStat(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %+v", in, s)
		}
	}
	for i := range statLine {
		if _, err := ParseStat(strings.NewReader(statLine[:i])); err == nil {
			t.Errorf("cut at byte %d was not noticed", i)
		}
	}
}

func TestReadStatSelf(t *testing.T) {
	s, err := ReadStat(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.Pid != os.Getpid() || s.Ppid != os.Getppid() || s.StartStack == 0 || s.EnvEnd <= s.ArgStart {
		t.Errorf("stat of this process is %+v", s)
	}
	if _, err := ReadStat(os.Getpid(), 1<<30); !Gone(err) {
		t.Errorf("a thread that does not exist: %v", err)
	}
}
