// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	l, err := measureLimits(t.TempDir(), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]float64{"write": l.Write, "memcpy": l.Memcpy} {
		if v < 1e5 || v > 1e12 {
			t.Errorf("%s: %g bytes a second", name, v)
		}
	}
}

func TestMedian(t *testing.T) {
	rounds := []checkpoint{{Pause: 3}, {Pause: 1}, {Pause: 2}, {Pause: math.Inf(1)}}
	if m := median(rounds, func(c checkpoint) float64 { return c.Pause }); m != 2 {
		t.Errorf("median %g, want 2", m)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	l := limits{Write: 2e9, DirectWrite: 4e9, DirectRead: 1e9, Memcpy: 8e9}
	printCheckpoints(&out, []checkpoint{
		{MiB: 64, Pause: 0.01, Dump: 0.5, Bytes: 1e9, StopDump: 1, StopBytes: 1e9, Resume: 2, Limits: l},
		{MiB: 64, Huge: true, Pause: 0.001, Dump: 1, Bytes: 1e9, StopDump: 1, StopBytes: 1e9, Resume: 2, Limits: l},
	})
	for _, want := range []string{"small", "huge", "10.0", "2.00", "1.00", "0.50", "0.25"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	t.Log("\n" + out.String())
}

func TestGapsOfAnotherTime(t *testing.T) {
	h := &heart{dir: t.TempDir()}
	if got := h.longest(time.Now().Add(-time.Second), time.Now()); got != 0.001 {
		t.Errorf("longest gap %g without any, want a beat", got)
	}
}
