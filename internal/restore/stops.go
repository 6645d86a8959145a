// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// stop puts a process into the group-stop it was in. That is complete, and its
// parent told of it, when the last thread has reported it (do_signal_stop in
// kernel/signal.c).
func (p *proc) stop(sig unix.Signal) error {
	err := p.stopLeader(sig)
	if errors.Is(err, errNotStopped) && sig != unix.SIGSTOP {
		err = p.stopLeader(unix.SIGSTOP)
	}
	if err != nil {
		return err
	}
	for _, t := range p.threads[1:] {
		if err := tracee.Settle(t.host); err != nil {
			return fmt.Errorf("thread %d: %w", t.host, err)
		}
	}
	return nil
}

// stopSignal is the signal of a stop, which the parent may ask for (waitpid(2)).
func stopSignal(pb *imagepb.Process) unix.Signal {
	switch sig := unix.Signal(pb.StopSignal); sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return sig
	}
	return unix.SIGSTOP
}

// errNotStopped says that a signal other than SIGSTOP does not stop: nobody
// could continue a process of an orphaned group (setpgid(2)).
var errNotStopped = errors.New("the signal does not stop it")

// stopLeader has the main thread stop with a signal. SIGSTOP alone is never
// blocked, so it is sent, and exchanged when it is delivered.
func (p *proc) stopLeader(sig unix.Signal) error {
	if err := unix.Kill(p.host, unix.SIGSTOP); err != nil {
		return err
	}
	if err := tracee.Cont(p.host, 0); err != nil {
		return err
	}
	s, err := tracee.Wait(p.host)
	if err != nil {
		return err
	}
	if s.Event() != 0 || s.Signal() != unix.SIGSTOP {
		return fmt.Errorf("thread %d %s instead of stopping", p.host, s)
	}
	if err := tracee.SetSigmask(p.host, allButTrap&^(1<<(sig-1))); err != nil {
		return err
	}
	if err := tracee.Interrupt(p.host); err != nil { // or it would run, should it not stop
		return err
	}
	if err := tracee.Cont(p.host, sig); err != nil {
		return err
	}
	if s, err = tracee.Wait(p.host); err != nil {
		return err
	}
	if err := tracee.SetSigmask(p.host, allButTrap); err != nil {
		return err
	}
	switch {
	case s.Event() != unix.PTRACE_EVENT_STOP:
		return fmt.Errorf("thread %d %s instead of stopping", p.host, s)
	case s.Signal() != sig:
		return errNotStopped
	}
	return nil
}

// goOn stops a process and lets it go on, which its parent has yet to hear of.
func (p *proc) goOn() error {
	if err := p.stop(unix.SIGSTOP); err != nil {
		return err
	}
	if err := unix.Kill(p.host, unix.SIGCONT); err != nil {
		return err
	}
	for _, t := range p.threads {
		if err := tracee.Settle(t.host); err != nil {
			return fmt.Errorf("thread %d: %w", t.host, err)
		}
	}
	return nil
}
