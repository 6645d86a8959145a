// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/sched"
)

func TestEstimate(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct {
		name   string
		c      cost
		memory int64
		want   time.Duration
	}{
		{"nothing known", cost{}, 100 << 20, fixedCost + time.Second},
		{"measured store", cost{speed: gib}, 2 * gib, fixedCost + 2*time.Second},
		{"last dump, same memory", cost{took: 4 * time.Second, memory: gib, speed: 1}, gib, 4 * time.Second},
		{"last dump, twice the memory", cost{took: 4 * time.Second, memory: gib}, 2 * gib, 8 * time.Second},
		{"last dump, less memory", cost{took: 4 * time.Second, memory: gib}, gib / 2, 4 * time.Second},
	} {
		if got := tc.c.estimate(tc.memory); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestLeaveTime(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, tc := range []struct {
		name        string
		end, margin time.Duration // from start
		want        time.Duration
	}{
		{"plenty", time.Hour, time.Minute, 59 * time.Minute},
		{"margin is most of it", time.Hour, 50 * time.Minute, 30 * time.Minute},
		{"margin is more than all of it", time.Minute, time.Hour, 30 * time.Second},
		{"over already", -time.Minute, time.Minute, -30 * time.Second},
	} {
		got := leaveTime(start, start.Add(tc.end), tc.margin).Sub(start)
		if got != tc.want {
			t.Errorf("%s: %v after the start, want %v", tc.name, got, tc.want)
		}
	}
}

func TestNextLookConverges(t *testing.T) {
	now := time.Unix(1000, 0)
	leave := now.Add(7 * 24 * time.Hour)
	looks := 0
	for now.Before(leave) {
		next := nextLook(now, leave)
		if !next.After(now) || next.After(leave) {
			t.Fatalf("look %d at %v is not between %v and %v", looks, next, now, leave)
		}
		now = next
		looks++
	}
	if looks > 20 {
		t.Errorf("%d wake-ups in a week, want a handful", looks)
	}
}

func TestMargin(t *testing.T) {
	if got := margin(Span{D: 3 * time.Minute}, time.Hour); got != 3*time.Minute {
		t.Errorf("given margin: %v", got)
	}
	if got := margin(Span{Auto: true}, 20*time.Second); got != 50*time.Second {
		t.Errorf("computed margin: %v, want 50s", got)
	}
}

func TestDaly(t *testing.T) {
	// sqrt(2·10·86400) is 1314.5; with Daly's two corrections less the cost: 1308.
	if got := daly(10*time.Second, 24*time.Hour).Round(time.Second); got != 1308*time.Second {
		t.Errorf("10 s at a day: %v", got)
	}
	if got := daly(time.Microsecond, 24*time.Hour); got != shortestPeriod {
		t.Errorf("a free checkpoint: %v", got)
	}
	if got := daly(100*time.Hour, 24*time.Hour); got != longestPeriod {
		t.Errorf("a checkpoint that takes longer than the host lives: %v", got)
	}
	if got := period(Span{D: time.Minute}, cost{took: time.Hour}, 1); got != time.Minute {
		t.Errorf("given period: %v", got)
	}
	if got := period(Span{}, cost{}, 1); got != 0 {
		t.Errorf("no period: %v", got)
	}
}

func TestSpreadSignalsAreThoseThatMeanLeave(t *testing.T) {
	m := monitor{job: sched.Job{Spread: []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2}}}
	for _, c := range []struct{ leaveOn, want []syscall.Signal }{
		{[]syscall.Signal{unix.SIGTERM, unix.SIGUSR2, unix.SIGUSR1}, []syscall.Signal{unix.SIGUSR1, unix.SIGUSR2}},
		{[]syscall.Signal{unix.SIGUSR2}, []syscall.Signal{unix.SIGUSR2}},
		{nil, []syscall.Signal{}}, // --on-signal none: they are the program's
	} {
		m.leaveOn = c.leaveOn
		if got := m.spread(); !slices.Equal(got, c.want) {
			t.Errorf("leave on %v: %v", c.leaveOn, got)
		}
	}
	if len(m.job.Spread) != 2 {
		t.Error("the adapter's list has changed")
	}
}
