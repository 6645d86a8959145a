// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// endAsZombie ends a process with the status it had ended with.
func (p *proc) endAsZombie() error {
	s := p.script()
	s.add("close_range", unix.SYS_CLOSE_RANGE, 0, math.MaxUint32, 0)
	s.add("name", unix.SYS_PRCTL, unix.PR_SET_NAME, s.string(p.pb.Comm))
	if err := s.do(); err != nil {
		return err
	}
	ws := unix.WaitStatus(p.pb.ExitStatus)
	if ws.Signaled() {
		return p.dieOf(ws.Signal())
	}
	b := &tracee.Batch{
		Tid: p.host, Pid: p.pid, Base: p.regs, Records: p.stub + pageSize,
		Calls: []*tracee.Call{tracee.Sys("exit_group", unix.SYS_EXIT_GROUP, uint64(ws.ExitStatus()))},
	}
	if err := b.Start(p.stub); err != nil {
		return err
	}
	return awaitEnd(p.host)
}

// dieOf lets a signal kill the process, without a core file.
func (p *proc) dieOf(sig unix.Signal) error {
	none := unix.Rlimit{}
	if err := unix.Prlimit(p.host, unix.RLIMIT_CORE, &none, nil); err != nil {
		return err
	}
	// The job may have been started with the signal ignored (nohup).
	if sig != unix.SIGKILL {
		s := p.script()
		s.add("sigaction", unix.SYS_RT_SIGACTION, uint64(sig), s.words(0, 0, 0, 0), 0, sigsetSize)
		if err := s.do(); err != nil {
			return err
		}
	}
	if err := tracee.SetSigmask(p.host, 0); err != nil {
		return err
	}
	if err := unix.Kill(p.host, sig); err != nil {
		return err
	}
	return awaitEnd(p.host)
}

func awaitEnd(host int) error {
	for {
		if err := tracee.Cont(host, 0); err != nil && !errors.Is(err, tracee.ErrGone) {
			return err
		}
		s, err := tracee.Wait(host)
		if err != nil {
			return err
		}
		if s.Ended() {
			return nil
		}
		if s.Event() == 0 && s.Signal() != unix.SIGTRAP {
			if err := tracee.Cont(host, s.Signal()); err != nil && !errors.Is(err, tracee.ErrGone) {
				return err
			}
			if s, err = tracee.Wait(host); err != nil || s.Ended() {
				return err
			}
		}
	}
}

// mainEnded says that the main thread had ended (pthread_exit(3)) and that the
// threads of the image are the others.
func (p *proc) mainEnded() bool { return p.pb.Threads[0].Tid != p.pb.Pid }

// endMain ends the main thread, which has rebuilt the process. It must be last:
// only that thread may queue signals to the process, and when it is dead /proc
// shows nothing by the pid.
func (p *proc) endMain() error {
	if err := tracee.SetSigmask(p.host, ^uint64(0)); err != nil { // signals are for the others
		return err
	}
	status := unix.WaitStatus(p.pb.ExitStatus).ExitStatus()
	if err := tracee.Leave(p.host, p.insn, p.regs, tracee.Sys("exit", unix.SYS_EXIT, uint64(status))); err != nil {
		return err
	}
	// The kernel reports its end only with that of the last thread.
	for end := time.Now().Add(mainEndTime); ; time.Sleep(time.Millisecond) {
		st, err := procfs.ReadStat(p.host, p.host)
		if err != nil || st.State == 'Z' {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("thread %d does not end", p.host)
		}
	}
}

const mainEndTime = 10 * time.Second
