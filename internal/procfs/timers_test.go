// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const timersText = "ID: 0\nsignal: 14/0000000000000000\nnotify: signal/pid.2634\nClockID: 0\n" +
	"ID: 7\nsignal: 60/00007fff86e452a8\nnotify: signal/tid.2635\nClockID: 1\n" +
	"ID: 8\nsignal: 0/(null)\nnotify: none/pid.2634\nClockID: -6\n" +
	"ID: 9\nsignal: 32/00007fff86e452b0\nnotify: thread/pid.0\nClockID: 7\n"

func TestParseTimers(t *testing.T) {
	want := []Timer{
		{ID: 0, Signal: 14, NotifyTid: 2634},
		{ID: 7, Signal: 60, Sigval: 0x7fff86e452a8, Notify: 4, NotifyTid: 2635, ClockID: 1},
		{ID: 8, Notify: 1, NotifyTid: 2634, ClockID: -6},
		{ID: 9, Signal: 32, Sigval: 0x7fff86e452b0, Notify: 2, ClockID: 7},
	}
	got, err := ParseTimers(strings.NewReader(timersText))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseTimersErrors(t *testing.T) {
	for _, in := range []string{
		"ID: 0\n", "ID: 0\nsignal: 1/0\nnotify: signal/pid.1\n", "signal: 1/0\n", "ID: x\n", "ID: 0\nsignal: 1\n",
		"ID: 0\nsignal: 1/0\nnotify: maybe/pid.1\nClockID: 0\n", "ID: 0\nsignal: 1/0\nnotify: signal/gid.1\nClockID: 0\n", "ID: 0\nsignal: 1/0\nnotify: signal/pid\nClockID: 0\n",
	} {
		if got, err := ParseTimers(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

const schedText = "sleep (2211, #threads: 1)\n-------------------------------------------------------------------\n" +
	"se.exec_start                                :      12345.678901\nse.vruntime                                  :         2.300000\n" +
	"nr_voluntary_switches                                  :                   17\n"

func TestParseSched(t *testing.T) {
	want := Sched{ExecStart: 12345*time.Millisecond + 678901, VoluntarySwitches: 17, OK: true}
	for _, in := range []string{schedText, "x\nnr_voluntary_switches:5 (1, #threads: 1)\n" + strings.SplitAfterN(schedText, "\n", 2)[1]} {
		got, err := ParseSched(strings.NewReader(in))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	got, err := ParseSched(strings.NewReader(strings.Replace(schedText, "se.exec_start", "se.other", 1)))
	if err != nil || got != (Sched{VoluntarySwitches: 17}) {
		t.Errorf("without se.exec_start: %+v, %v", got, err)
	}
	for _, v := range []string{"12345", "1.5", "-1.000000", "1.00000x", "99999999999999999.000000"} {
		in := strings.Replace(schedText, "12345.678901", v, 1)
		if got, err := ParseSched(strings.NewReader(in)); err == nil {
			t.Errorf("time %s was read as %+v", v, got)
		}
	}
}
