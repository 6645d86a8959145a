// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

const sigIgn = 1

// setSignals sets the actions and fills the queues. All signals are blocked now,
// so what is queued waits. First the queue is emptied of the SIGCHLDs that the
// ends and stops of restored children have caused.
func (p *proc) setSignals(stopped []*proc) error {
	if err := p.drainChildSignals(); err != nil {
		return err
	}
	if err := p.noticeStops(stopped); err != nil {
		return err
	}
	s := p.script()
	for i, a := range p.pb.Sigactions {
		sig := unix.Signal(i + 1)
		if sig == unix.SIGKILL || sig == unix.SIGSTOP || sig == unix.SIGTRAP && a.Handler == sigIgn {
			continue // an ignored SIGTRAP is set last, see letGo
		}
		s.add("sigaction", unix.SYS_RT_SIGACTION, uint64(sig), s.words(a.Handler, a.Flags, a.Restorer, a.Mask), 0, sigsetSize)
	}
	for _, info := range p.pb.Pending {
		if signalOf(info) == uint64(unix.SIGTRAP) {
			continue // see queueTraps
		}
		at := s.bytes(info.Raw)
		s.add("queue a signal", unix.SYS_RT_SIGQUEUEINFO, real(int(p.pb.Pid)), signalOf(info), at)
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	if err := s.do(); err != nil {
		return err
	}
	for i, t := range p.threads {
		if err := p.queueOwn(t, p.pb.Threads[i]); err != nil {
			return err
		}
	}
	return nil
}

// drainChildSignals takes pending SIGCHLDs out, and the SIGCONT of goOn, until
// there is none.
func (p *proc) drainChildSignals() error {
	for {
		s := p.script()
		c := s.add("sigtimedwait", unix.SYS_RT_SIGTIMEDWAIT, s.words(1<<(unix.SIGCHLD-1)|1<<(unix.SIGCONT-1)), 0, s.words(0, 0), sigsetSize)
		err := s.do()
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return err
		}
		if c.Result != int64(unix.SIGCHLD) && c.Result != int64(unix.SIGCONT) {
			return fmt.Errorf("signal %d instead of SIGCHLD", c.Result)
		}
	}
}

// noticeStops waits for the stops of children that the process had waited for.
func (p *proc) noticeStops(stopped []*proc) error {
	const pPid = 1
	for _, c := range stopped {
		if c.pb.Ppid != p.pb.Pid || !c.pb.StopNoticed {
			continue
		}
		s := p.script()
		s.add("waitid", unix.SYS_WAITID, pPid, real(int(c.pb.Pid)), 0, unix.WSTOPPED|unix.WNOHANG, 0)
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

func signalOf(info *imagepb.Siginfo) uint64 { return uint64(info.Raw[0]) }

// queueOwn queues the signals of one thread, by that thread: only for itself
// may a task give every siginfo (rt_sigqueueinfo(2)).
func (p *proc) queueOwn(t *task, pb *imagepb.Thread) error {
	for _, info := range pb.Pending {
		if signalOf(info) == uint64(unix.SIGTRAP) {
			continue // see queueTraps
		}
		s := t.script()
		s.add("queue a signal", unix.SYS_RT_TGSIGQUEUEINFO, real(int(p.pb.Pid)), real(int(pb.Tid)), signalOf(info), s.bytes(info.Raw))
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}
