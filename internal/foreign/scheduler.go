// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/plugin"
)

// Scheduler is a scheduler plugin as an adapter. The plugin runs only while it is
// asked something: nothing of it lies beside the job.
type Scheduler struct {
	name string
	open func() (plugin.Scheduler, func(), error)
	say  func(text string)
	job  plugin.Job // as the plugin described it
}

// askTime bounds one question to a scheduler plugin, with its start.
const askTime = 15 * time.Second

// FindScheduler asks the scheduler plugins of this installation, one after the
// other, whether a job is theirs. One that does not work is told and passed over.
func FindScheduler(ctx context.Context, f sched.Facts, say func(text string)) (*Scheduler, bool) {
	for _, found := range plugin.List(plugin.SchedulerPrefix) {
		s := &Scheduler{name: found.Name, say: say, open: opener(found, say)}
		yes := false
		err := s.ask(ctx, func(ctx context.Context, p plugin.Scheduler) (err error) {
			yes, err = p.Detect(ctx, factsOf(f))
			return err
		})
		if err != nil {
			say(fmt.Sprintf("scheduler plugin %s is left out: %v", found.Name, err))
		}
		if yes && err == nil {
			return s, true
		}
	}
	return nil, false
}

func opener(found plugin.Found, say func(string)) func() (plugin.Scheduler, func(), error) {
	return func() (plugin.Scheduler, func(), error) {
		p, err := plugin.Open(plugin.HostConfig{
			Found: found, Answer: askTime, Log: func(line string) { say(found.Name + ": " + line) },
		})
		if err != nil {
			return nil, nil, err
		}
		return p.Scheduler(), p.Close, nil
	}
}

func (s *Scheduler) ask(ctx context.Context, question func(context.Context, plugin.Scheduler) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	p, end, err := s.open()
	if err != nil {
		return err
	}
	defer end()
	return question(ctx, p)
}

// Name implements sched.Adapter.
func (s *Scheduler) Name() string { return s.name }

// Detect implements sched.Adapter: FindScheduler has asked.
func (s *Scheduler) Detect(sched.Env) bool { return true }

// asked are the signals of which a scheduler is asked what they mean.
var asked = []syscall.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGXCPU, syscall.SIGALRM, syscall.SIGCONT,
}

// Describe implements sched.Adapter. What signals mean is asked in advance: when
// one comes there is no time.
func (s *Scheduler) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	var j sched.Job
	facts := factsOf(f)
	err := s.ask(ctx, func(ctx context.Context, p plugin.Scheduler) (err error) {
		if s.job, err = p.Job(ctx, facts); err != nil {
			return err
		}
		j = jobOf(s.name, s.job)
		for _, sig := range asked {
			what, err := p.Plan(ctx, facts, s.job, plugin.Event{Signal: sig})
			switch {
			case err != nil:
				return err
			case what == plugin.Leave:
				j.Leave = append(j.Leave, sig)
			case what == plugin.Ignore:
				j.Ignore = append(j.Ignore, sig)
			}
		}
		what, err := p.Plan(ctx, facts, s.job, plugin.Event{})
		if what != plugin.Leave && err == nil {
			j.End = time.Time{} // its limit is no reason to leave
		}
		return err
	})
	return j, err
}

func jobOf(name string, p plugin.Job) sched.Job {
	j := sched.Job{
		Scheduler: name, ID: p.ID, Attempt: int(p.Attempt), Key: p.Key, Sole: p.Sole, Step: p.Step, End: p.End, Grace: p.Grace,
		Comment: p.Comment, NoReturn: p.NoReturn, Warnings: p.Warnings,
	}
	if p.TruncatesOutput {
		j.Warnings = append(j.Warnings, "the job's next start will empty its output file")
	}
	return j
}

func factsOf(f sched.Facts) plugin.Facts {
	p := plugin.Facts{
		Env: os.Environ(), Command: f.Command, Dir: f.Dir, Pid: f.Pid, Now: f.Now, Leader: f.Leader, Began: f.Began, Start: int64(f.Start),
	}
	p.Stdout.File, p.Stdout.Append, p.Stdout.Path = f.Stdout.Regular, f.Stdout.Append, f.Stdout.Path
	return p
}

func actionOf(a plugin.Action, exit int) sched.Action {
	if a.Exit != 0 {
		exit = a.Exit
	}
	return sched.Action{Commands: a.Commands, Settled: a.Settled, Exit: exit, WaitForKill: a.WaitForKill, Note: a.Note}
}

// Leave implements sched.Adapter.
func (s *Scheduler) Leave(ctx context.Context, f sched.Facts, _ sched.Job) sched.Action {
	var want, back plugin.Action
	facts := factsOf(f)
	err := s.ask(ctx, func(ctx context.Context, p plugin.Scheduler) (err error) {
		if want, err = p.Constrain(ctx, facts, s.job, needs()); err != nil {
			return err
		}
		back, err = p.Requeue(ctx, facts, s.job)
		return err
	})
	if err != nil {
		return sched.Action{Exit: sched.ExitAgain, WaitForKill: true, Note: fmt.Sprintf("scheduler plugin %s was of no help: %v", s.name, err)}
	}
	back.Commands = append(want.Commands, back.Commands...)
	back.Settled = append(want.Settled, back.Settled...)
	return actionOf(back, sched.ExitAgain)
}

// needs is what a job that ran here needs of its next host.
func needs() plugin.Needs {
	h, err := host.Describe()
	if err != nil {
		return plugin.Needs{}
	}
	return plugin.Needs{Arch: h.GetArch(), Kernel: h.GetKernel(), CPUModel: h.GetCpuModel(), CPUFeatures: h.GetCpuFeatures()}
}

// Hold implements sched.Adapter.
func (s *Scheduler) Hold(_ sched.Job, reason string) sched.Action {
	return s.act(sched.ExitCannot, reason, func(ctx context.Context, p plugin.Scheduler) (plugin.Action, error) {
		return p.Hold(ctx, s.facts(), s.job, reason)
	})
}

// Status implements sched.Adapter.
func (s *Scheduler) Status(_ sched.Job, text string) sched.Action {
	return s.act(0, "", func(ctx context.Context, p plugin.Scheduler) (plugin.Action, error) {
		return p.Show(ctx, s.facts(), s.job, text)
	})
}

// Finish implements sched.Finisher.
func (s *Scheduler) Finish(_ sched.Job, status int) sched.Action {
	return s.act(0, "", func(ctx context.Context, p plugin.Scheduler) (plugin.Action, error) {
		return p.Finish(ctx, s.facts(), s.job, status)
	})
}

// facts are those of now.
func (s *Scheduler) facts() plugin.Facts {
	f, err := sched.Gather(nil)
	if err != nil {
		s.say(err.Error())
	}
	return factsOf(f)
}

func (s *Scheduler) act(exit int, note string, question func(context.Context, plugin.Scheduler) (plugin.Action, error)) sched.Action {
	var a plugin.Action
	err := s.ask(context.Background(), func(ctx context.Context, p plugin.Scheduler) (err error) {
		a, err = question(ctx, p)
		return err
	})
	if err != nil {
		s.say(fmt.Sprintf("scheduler plugin %s was of no help: %v", s.name, err))
		return sched.Action{Exit: exit, Note: note}
	}
	return actionOf(a, exit)
}
