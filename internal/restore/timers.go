// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// setTimers arms what was armed, for the time that was left.
func (r *restorer) setTimers(p *proc) error {
	s := p.script()
	for which, it := range p.pb.Itimers {
		value := it.ValueNs
		if which == itimerReal && value != 0 {
			value = max(r.left(value), 1e3) // microseconds
		}
		if value == 0 || it.ValueNs == 0 && it.IntervalNs != 0 {
			value = it.IntervalNs // its signal is in the queue: the next is an interval away
		}
		if value != 0 {
			s.add("setitimer", unix.SYS_SETITIMER, uint64(which), s.words(
				uint64(it.IntervalNs/1e9), uint64(it.IntervalNs%1e9/1e3),
				uint64(value/1e9), uint64(value%1e9/1e3)), 0)
		}
	}
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if f.Kind == imagepb.OpenFile_TIMERFD && r.once(fd.OpenFile) {
			r.setTimerfd(s, fd.Number, f.Timerfd)
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
	}
	if err := s.do(); err != nil {
		return err
	}
	return r.setPosixTimers(p)
}

const itimerReal = 0

// left is what remains now of a time that remained at the freeze: the job's
// clock was set before its processes could be made, and has gone on since.
func (r *restorer) left(ns int64) int64 {
	if ns == math.MaxInt64 {
		return ns
	}
	return max(ns-int64(r.since()), 1)
}

// since is how far the job's clocks have come from where they were saved.
func (r *restorer) since() time.Duration { return freeze.Monotonic() - r.zero }

// passed is how far the clock of a timer has come since. Real time has not stood
// still, but only a timer with an absolute time is to know.
func (r *restorer) passed(clock int32, absolute bool) int64 {
	if clock == unix.CLOCK_REALTIME && absolute {
		return time.Now().UnixNano() - r.meta.Clocks.RealtimeNs
	}
	if clock == unix.CLOCK_PROCESS_CPUTIME_ID || clock == unix.CLOCK_THREAD_CPUTIME_ID || clock < 0 {
		return 0
	}
	return int64(r.since())
}

func itimerspec(s *script, intervalNs, valueNs int64) uint64 {
	return s.words(uint64(intervalNs/1e9), uint64(intervalNs%1e9), uint64(valueNs/1e9), uint64(valueNs%1e9))
}

// tfdIocSetTicks is TFD_IOC_SET_TICKS of timerfd_create(2).
const tfdIocSetTicks = 0x40085400

func (r *restorer) setTimerfd(s *script, fd int32, t *imagepb.Timerfd) {
	ticks := t.Ticks
	if t.ValueNs != 0 {
		left, missed := dueIn(t.ValueNs, t.IntervalNs, r.passed(t.Clockid, t.SettimeFlags&unix.TFD_TIMER_ABSTIME != 0))
		ticks += missed
		s.add("timerfd_settime", unix.SYS_TIMERFD_SETTIME, uint64(fd), 0, itimerspec(s, t.IntervalNs, left), 0)
	}
	if ticks != 0 {
		s.add("timerfd ticks", unix.SYS_IOCTL, uint64(fd), tfdIocSetTicks, s.words(ticks))
	}
}

// dueIn is when a timer expires next that was due in value, and how often a periodic
// one has expired in the time that has passed.
func dueIn(value, interval, passed int64) (left int64, missed uint64) {
	switch late := passed - value; {
	case late < 0:
		return -late, 0
	case interval == 0:
		return 1, 0
	default:
		return interval - late%interval, uint64(late/interval) + 1
	}
}

// prTimerCreateRestoreIDs lets timer_create(2) give a chosen id (Linux 6.15).
const prTimerCreateRestoreIDs = 77

func (r *restorer) setPosixTimers(p *proc) error {
	if len(p.pb.PosixTimers) == 0 {
		return nil
	}
	s := p.script()
	s.add("timer ids", unix.SYS_PRCTL, prTimerCreateRestoreIDs, 1, 0, 0, 0)
	byID := s.do() == nil
	// Upwards: an older kernel's ids only go up, and its list of timers goes down.
	slices.SortFunc(p.pb.PosixTimers, func(a, b *imagepb.PosixTimer) int { return cmp.Compare(a.Id, b.Id) })
	for _, t := range p.pb.PosixTimers {
		if err := p.createTimer(t, byID); err != nil {
			return fmt.Errorf("timer %d: %w", t.Id, err)
		}
		s := p.script()
		if t.ValueNs != 0 {
			s.add("timer_settime", unix.SYS_TIMER_SETTIME, uint64(t.Id), 0,
				itimerspec(s, t.IntervalNs, max(t.ValueNs-r.passed(t.Clockid, false), 1)), 0)
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	if byID {
		s := p.script()
		s.add("timer ids", unix.SYS_PRCTL, prTimerCreateRestoreIDs, 0, 0, 0, 0)
		return s.do()
	}
	return nil
}

// Older kernels number timers upwards, so the id comes up after some tries.
const maxTimerTries = 10000

func (p *proc) createTimer(t *imagepb.PosixTimer, byID bool) error {
	for range maxTimerTries {
		s := p.script()
		event := s.words(t.Sigval, uint64(uint32(t.Signo))|uint64(uint32(t.Notify))<<32, uint64(uint32(ids.Real(int(t.Tid)))), 0, 0, 0, 0, 0)
		id := s.words(uint64(t.Id))
		s.add("timer_create", unix.SYS_TIMER_CREATE, uint64(int64(t.Clockid)), event, id)
		if err := s.do(); err != nil {
			return err
		}
		b, err := p.read(id, 4)
		if err != nil {
			return err
		}
		got := int32(binary.LittleEndian.Uint32(b))
		if got == t.Id {
			return nil
		}
		if byID || got > t.Id {
			return fmt.Errorf("the kernel made timer %d", got)
		}
		s.add("timer_delete", unix.SYS_TIMER_DELETE, uint64(got))
		if err := s.do(); err != nil {
			return err
		}
	}
	return errors.New("its id does not come up")
}
