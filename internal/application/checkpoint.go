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

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// saving is a checkpoint under way.
type saving struct {
	*keeper
	ctx    context.Context
	o      plugin.CheckpointOptions
	tell   func(answer)
	finish <-chan finishRequest
	began  time.Time
	stood  time.Time // since when the job has stood still
	before map[string]stamp
}

// look is how often is looked whether a checkpoint is there.
const look = 20 * time.Millisecond

// checkpoint asks the program for a checkpoint, waits for it, and copies it.
func (k *keeper) checkpoint(ctx context.Context, o plugin.CheckpointOptions, tell func(answer), finish <-chan finishRequest) {
	if !k.saving.TryLock() {
		tell(answer{Err: plugin.Errorf(plugin.Busy, "wait for it, or finish it", "a checkpoint of the job is under way")})
		return
	}
	defer k.saving.Unlock()
	limit, _ := k.Config.timeout()
	late := plugin.Errorf(plugin.Refused, "see whether it was asked in the right way, or set timeout", "the program has written no checkpoint within %s", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	ctx, doomed := context.WithCancelCause(ctx)
	defer doomed(nil)
	go func() {
		select {
		case <-k.doom:
			doomed(plugin.Errorf(plugin.Ended, "", "the job was killed"))
		case <-ctx.Done():
		}
	}()
	s := &saving{keeper: k, ctx: ctx, o: o, tell: tell, finish: finish, began: time.Now()}
	way := s.running
	if k.Config.leaves() {
		way = s.leave
	}
	if err := way(); err != nil {
		tell(answer{Err: asError(err)})
	}
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
		if s.o.Stop {
			if err := s.stopAll(); err != nil {
				return errors.Join(err, s.signalAll(unix.SIGCONT))
			}
		}
		m, err := s.save(name)
		if err == nil {
			s.tell(answer{Image: new(m.plugin(s.o.Dir))})
			if s.o.Stop && s.finished() {
				s.killAll()
			}
		}
		if s.o.Stop {
			_ = s.signalAll(unix.SIGCONT) // what was killed is gone
		}
		if !errors.Is(err, errMoving) {
			s.tell(answer{Err: asError(err), Done: err == nil})
			return nil
		}
		time.Sleep(look)
	}
}

// finished waits for the host, which puts the image in its place: true: the job ends.
func (s *saving) finished() bool {
	select {
	case f := <-s.finish:
		return f.End
	case <-s.doom:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// await waits until a checkpoint is there and returns the name of its file.
func (s *saving) await() (name string, err error) {
	s.tell(answer{Progress: &plugin.Progress{Phase: "wait for the program"}})
	for {
		s.mu.Lock()
		up := s.main != 0
		s.mu.Unlock()
		name, there, err := s.there()
		switch {
		case err != nil:
			return "", err
		case there:
			return name, nil
		case !up:
			return "", plugin.Errorf(plugin.Ended, "", "the program has ended")
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
	if s.main == 0 {
		s.mu.Unlock()
		return plugin.Errorf(plugin.Ended, "", "the program has ended")
	}
	s.leaving = l
	s.mu.Unlock()
	if err := s.ask(); err != nil {
		s.decide(l, verdict{})
		return err
	}
	defer s.withdraw()
	s.tell(answer{Progress: &plugin.Progress{Phase: "wait for the program to end"}})
	var exit plugin.Exit
	var late error
	select {
	case exit = <-l.exit:
	case <-s.ctx.Done():
		// It was asked and will end: then it has to be started again.
		late = context.Cause(s.ctx)
		s.tell(answer{Err: asError(late)})
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
	s.tell(answer{Image: new(m.plugin(s.o.Dir))})
	if s.o.Stop && s.finished() {
		next = verdict{ended: true}
	}
	s.decide(l, next)
	s.tell(answer{Done: true})
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
		s.mu.Lock()
		pid := s.main
		s.mu.Unlock()
		if pid == 0 {
			return plugin.Errorf(plugin.Ended, "", "the program has ended")
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
	c := make(chan plugin.Exit, 1)
	s.mu.Lock()
	if s.main == 0 {
		s.mu.Unlock()
		return plugin.Errorf(plugin.Ended, "", "the program has ended")
	}
	env := append(slices.Clone(s.Env), fmt.Sprintf("ESKY_PID=%d", s.main))
	null, err := os.Open(os.DevNull)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	defer null.Close()
	pid, err := s.fork(argv, env, []*os.File{null, os.Stdout, os.Stderr})
	if err == nil {
		s.awaiting[pid] = c
	}
	s.mu.Unlock()
	if err != nil {
		return plugin.Errorf(plugin.Internal, "", "ask for a checkpoint: %v", err)
	}
	select {
	case exit := <-c:
		if exit.Status() != 0 {
			return plugin.Errorf(plugin.Internal, "", "ask for a checkpoint: %s ends with status %d", argv[0], exit.Status())
		}
		return nil
	case <-s.ctx.Done():
		_ = unix.Kill(-pid, unix.SIGKILL)
		return context.Cause(s.ctx)
	}
}
