// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// lookAtSleepers notes since when each thread in a timed wait has been asleep.
// It is best effort: a thread that it cannot tell of waits too long, not wrong.
func lookAtSleepers(tree Tree) sleepTimes {
	times := sleepTimes{}
	clocks := schedClocks{}
	pids, _ := tree.Members()
	for _, pid := range pids {
		tids, _ := procfs.Tasks(pid)
		for _, tid := range tids {
			if !inTimedWait(pid, tid) {
				continue
			}
			st, err := procfs.ReadStat(pid, tid)
			if err != nil || st.State != 'S' {
				continue
			}
			sched, err := procfs.ReadSched(pid, tid)
			if err != nil || !sched.OK {
				continue
			}
			if zero, ok := clocks.zero(st.Processor); ok {
				times[tid] = asleep{since: zero.Add(sched.ExecStart), switches: sched.VoluntarySwitches}
			}
		}
	}
	clocks.done()
	return times
}

// BlockedIn asks /proc/PID/task/TID/syscall, which names the system call that a
// blocked thread is in; -1: none.
func BlockedIn(pid, tid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	if err != nil {
		return -1
	}
	number, _, _ := strings.Cut(string(b), " ")
	nr, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil { // "running"
		return -1
	}
	return nr
}

func inTimedWait(pid, tid int) bool {
	nr := BlockedIn(pid, tid)
	switch nr {
	case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_POLL, unix.SYS_FUTEX, unix.SYS_RESTART_SYSCALL:
		return true
	}
	return endedByTracer[nr].timeout != nil
}

// schedClocks relates the scheduler's clock of each CPU to ours: they differ
// from CPU to CPU, by the time spent in interrupts. It reads its own thread's
// entry on that CPU, right after the thread got it.
type schedClocks struct {
	zeros map[int]time.Time
	old   *unix.CPUSet
}

func (c *schedClocks) zero(cpu int) (time.Time, bool) {
	if z, ok := c.zeros[cpu]; ok {
		return z, true
	}
	if c.zeros == nil {
		c.zeros, c.old = map[int]time.Time{}, new(unix.CPUSet)
		_ = unix.SchedGetaffinity(0, c.old)
	}
	var one unix.CPUSet
	one.Set(cpu)
	if unix.SchedSetaffinity(0, &one) != nil {
		return time.Time{}, false
	}
	z, ok := compareClocks()
	if ok {
		c.zeros[cpu] = z
	}
	return z, ok
}

// compareClocks reads our clock after the scheduler's. What comes between, when
// the CPU is busy with others, makes sleepers seem to have slept less, and so too
// long in the end, but never too short. Of some tries the quickest counts.
func compareClocks() (zero time.Time, ok bool) {
	const tries, quick = 5, 100 * time.Microsecond
	for range tries {
		ts := unix.NsecToTimespec(1000)
		_ = unix.Nanosleep(&ts, nil)
		begin := time.Now()
		sched, err := procfs.ReadSched(os.Getpid(), unix.Gettid())
		if err != nil || !sched.OK {
			return time.Time{}, false
		}
		now := time.Now()
		if z := now.Add(-sched.ExecStart); !ok || z.Before(zero) {
			zero, ok = z, true
		}
		if now.Sub(begin) < quick {
			break
		}
	}
	return zero, ok
}

func (c *schedClocks) done() {
	if c.old != nil {
		_ = unix.SchedSetaffinity(0, c.old)
	}
}
