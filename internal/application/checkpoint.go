// SPDX-License-Identifier: Apache-2.0

package application

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// saving is a checkpoint under way.
type saving struct {
	*trade
	*keeper.Saving
	ctx    context.Context // of asking, and waiting for the program
	stood  time.Time       // since when the job has stood still
	before map[string]stamp
}

// look is how often is looked whether a checkpoint is there.
const look = 20 * time.Millisecond

// Checkpoint implements keeper.Trade: it asks the program for a checkpoint, waits for
// it, and copies it.
func (t *trade) Checkpoint(saved *keeper.Saving) error {
	limit, _ := t.Config.timeout()
	late := plugin.Errorf(plugin.Refused, "see whether it was asked in the right way, or set timeout", "the program has written no checkpoint within %s", limit)
	ctx, cancel := context.WithTimeoutCause(saved.Ctx, limit, late)
	defer cancel()
	s := &saving{trade: t, Saving: saved, ctx: ctx}
	if t.Config.leaves() {
		return s.leave()
	}
	return s.running()
}

// running makes a checkpoint of a program that runs on.
func (s *saving) running() error {
	if err := s.ask(); err != nil {
		return err
	}
	defer s.withdraw()
	for {
		name, err := s.await()
		if err != nil {
			return err
		}
		s.stood = time.Now()
		if s.Options.Stop {
			if err := s.StopAll(); err != nil {
				return errors.Join(err, s.SignalAll(unix.SIGCONT))
			}
		}
		m, err := s.save(name)
		if err == nil && s.Saved(m.plugin(s.Options.Dir)) {
			s.KillAll()
		}
		if s.Options.Stop {
			_ = s.SignalAll(unix.SIGCONT) // what was killed is gone
		}
		if !errors.Is(err, errMoving) {
			return err
		}
		time.Sleep(look)
	}
}

// await waits until a checkpoint is there and returns the name of its file.
func (s *saving) await() (name string, err error) {
	s.Progress(plugin.Progress{Phase: "wait for the program"})
	for {
		_, up := s.Main()
		name, there, err := s.there()
		switch {
		case err != nil:
			return "", err
		case there:
			return name, nil
		case up != nil:
			return "", up
		}
		select {
		case <-time.After(look):
		case <-s.ctx.Done():
			return "", context.Cause(s.ctx)
		}
	}
}

// leave makes a checkpoint of a program that ends by it. It is started again from
// there unless the job is to end.
func (s *saving) leave() error {
	l := &leaving{exit: make(chan plugin.Exit, 1), verdict: make(chan verdict, 1)}
	s.mu.Lock()
	s.leaving = l
	s.mu.Unlock()
	if _, err := s.Main(); err != nil {
		s.decide(l, verdict{})
		return err
	}
	if err := s.ask(); err != nil {
		s.decide(l, verdict{})
		return err
	}
	defer s.withdraw()
	s.Progress(plugin.Progress{Phase: "wait for the program to end"})
	var exit plugin.Exit
	var late error
	select {
	case exit = <-l.exit:
	case <-s.ctx.Done():
		// It was asked and will end: then it has to be started again.
		late = context.Cause(s.ctx)
		s.Failed(late)
		exit = <-l.exit
	}
	s.stood = time.Now()
	name, there, err := s.there()
	if err != nil || !there || exit.Signal != 0 || !slices.Contains(s.Config.Done.Exit, exit.Code) {
		s.decide(l, verdict{})
		return errors.Join(err, plugin.Errorf(plugin.Ended, "", "the program has ended with status %d instead of leaving a checkpoint", exit.Status()))
	}
	next := verdict{next: s.Config.restart(s.Command, name)}
	if late != nil {
		s.decide(l, next)
		return nil
	}
	m, err := s.save(name)
	if err != nil {
		s.decide(l, next)
		return err
	}
	if s.Saved(m.plugin(s.Options.Dir)) {
		next = verdict{ended: true}
	}
	s.decide(l, next)
	return nil
}

// decide says what becomes of a job whose program has left, or will. The end of the
// one that is started then is an end again.
func (s *saving) decide(l *leaving, v verdict) {
	s.withdraw()
	s.mu.Lock()
	s.leaving = nil
	s.mu.Unlock()
	l.verdict <- v
}

// ask asks the program, after a look at what is there already.
func (s *saving) ask() (err error) {
	a := s.Config.Ask
	if s.Config.asks() {
		if s.before, err = s.found(); err != nil {
			return err
		}
	}
	s.tee.arm()
	if a.File != "" {
		f, err := os.OpenFile(a.File, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("ask for a checkpoint: %w", err)
		}
		f.Close()
	}
	if a.Signal != "" {
		if err := s.askBySignal(s.Config.signal()); err != nil {
			return fmt.Errorf("ask for a checkpoint: %w", err)
		}
	}
	if len(a.Command) == 0 {
		return nil
	}
	return s.askByCommand(a.Command)
}

// withdraw removes the request, so that the program does not find it again.
func (s *saving) withdraw() {
	if s.Config.Ask.File != "" {
		_ = os.Remove(s.Config.Ask.File) // the program may have done so
	}
}

// handlerTime is how long a program that has just begun may take to catch the signal.
const handlerTime = 10 * time.Second

// askBySignal does not send a signal that would kill.
func (s *saving) askBySignal(sig syscall.Signal) error {
	for end := time.Now().Add(handlerTime); ; {
		pid, err := s.Main()
		if err != nil {
			return err
		}
		st, err := procfs.ReadStatus(pid, 0)
		if err == nil && st.SigCgt&(1<<(sig-1)) != 0 {
			return os.NewSyscallError("kill", unix.Kill(pid, sig)) // to nobody else: its children may not know it
		}
		if time.Now().After(end) || errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
			return plugin.Errorf(plugin.Refused, "let the program be the main process (`exec` in a script), and correct ask.signal", "process %d does not catch %s, which would end it", pid, unix.SignalName(sig))
		}
		select {
		case <-time.After(look):
		case <-s.ctx.Done():
			if !errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
				return context.Cause(s.ctx)
			}
		}
	}
}

func (s *saving) askByCommand(argv []string) error {
	pid, err := s.Main()
	if err != nil {
		return err
	}
	exit, err := s.Beside(s.ctx, argv, append(slices.Clone(s.Env), fmt.Sprintf("ESKY_PID=%d", pid)))
	if err == nil && exit.Status() != 0 {
		err = plugin.Errorf(plugin.Internal, "", "%s ends with status %d", argv[0], exit.Status())
	}
	if err != nil {
		return fmt.Errorf("ask for a checkpoint: %w", err)
	}
	return nil
}
