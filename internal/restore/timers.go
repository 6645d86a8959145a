// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// setTimers arms what was armed, for the time that was left.
func (r *restorer) setTimers(p *proc) error {
	s := p.script()
	for which, it := range p.pb.Itimers {
		if it.ValueNs != 0 {
			s.add("setitimer", unix.SYS_SETITIMER, uint64(which), s.words(
				uint64(it.IntervalNs/1e9), uint64(it.IntervalNs%1e9/1e3),
				uint64(it.ValueNs/1e9), uint64(it.ValueNs%1e9/1e3)), 0)
		}
	}
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if f.Kind == imagepb.OpenFile_TIMERFD && r.once(fd.OpenFile) {
			setTimerfd(s, fd.Number, f.Timerfd)
		}
	}
	if err := s.do(); err != nil {
		return err
	}
	return p.setPosixTimers()
}

func itimerspec(s *script, intervalNs, valueNs int64) uint64 {
	return s.words(uint64(intervalNs/1e9), uint64(intervalNs%1e9), uint64(valueNs/1e9), uint64(valueNs%1e9))
}

// tfdIocSetTicks is TFD_IOC_SET_TICKS of timerfd_create(2).
const tfdIocSetTicks = 0x40085400

func setTimerfd(s *script, fd int32, t *imagepb.Timerfd) {
	if t.ValueNs != 0 {
		s.add("timerfd_settime", unix.SYS_TIMERFD_SETTIME, uint64(fd), 0, itimerspec(s, t.IntervalNs, t.ValueNs), 0)
	}
	if t.Ticks != 0 {
		s.add("timerfd ticks", unix.SYS_IOCTL, uint64(fd), tfdIocSetTicks, s.words(t.Ticks))
	}
}

// prTimerCreateRestoreIDs lets timer_create(2) give a chosen id (Linux 6.15).
const prTimerCreateRestoreIDs = 77

func (p *proc) setPosixTimers() error {
	if len(p.pb.PosixTimers) == 0 {
		return nil
	}
	s := p.script()
	s.add("timer ids", unix.SYS_PRCTL, prTimerCreateRestoreIDs, 1, 0, 0, 0)
	byID := s.do() == nil
	for _, t := range p.pb.PosixTimers {
		if err := p.createTimer(t, byID); err != nil {
			return fmt.Errorf("timer %d: %w", t.Id, err)
		}
		s := p.script()
		if t.ValueNs != 0 {
			s.add("timer_settime", unix.SYS_TIMER_SETTIME, uint64(t.Id), 0, itimerspec(s, t.IntervalNs, t.ValueNs), 0)
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
		event := s.words(t.Sigval, uint64(uint32(t.Signo))|uint64(uint32(t.Notify))<<32, uint64(uint32(t.Tid)), 0, 0, 0, 0, 0)
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
