// SPDX-License-Identifier: Apache-2.0

// Package schedulers has the adapters that are part of esky: esky-wrap finds its own
// batch system among them, esky-provider serves them to other programs.
package schedulers

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/plugin"
	_ "github.com/esky-hpc/esky/scheduler-hooks/flux"
	_ "github.com/esky-hpc/esky/scheduler-hooks/gridengine"
	_ "github.com/esky-hpc/esky/scheduler-hooks/htcondor"
	_ "github.com/esky-hpc/esky/scheduler-hooks/kubernetes"
	_ "github.com/esky-hpc/esky/scheduler-hooks/lsf"
	_ "github.com/esky-hpc/esky/scheduler-hooks/nomad"
	_ "github.com/esky-hpc/esky/scheduler-hooks/oar"
	_ "github.com/esky-hpc/esky/scheduler-hooks/pbs"
	_ "github.com/esky-hpc/esky/scheduler-hooks/slurm"
)

// Scheduler is all of them as one plugin.Scheduler. An adapter asks for the host that
// a job needs together with its return, so Constrain has nothing to add.
type Scheduler struct {
	plugin.PlainScheduler
	version string

	mu   sync.Mutex
	jobs map[string]sched.Job // as they were described
}

// New makes one.
func New(version string) *Scheduler {
	return &Scheduler{version: version, jobs: map[string]sched.Job{}}
}

// Describe implements plugin.Scheduler.
func (s *Scheduler) Describe(context.Context) (plugin.SchedulerDescription, error) {
	return plugin.SchedulerDescription{Name: "esky", Version: s.version}, nil
}

// Detect implements plugin.Scheduler.
func (s *Scheduler) Detect(_ context.Context, f plugin.Facts) (bool, error) {
	_, yes := sched.Find(f.Getenv)
	return yes, nil
}

// Job implements plugin.Scheduler.
func (s *Scheduler) Job(ctx context.Context, f plugin.Facts) (plugin.Job, error) {
	a, yes := sched.Find(f.Getenv)
	if !yes {
		return plugin.Job{}, plugin.Errorf(plugin.Usage, "ask Detect first", "these are no facts of a batch job")
	}
	j, err := a.Describe(ctx, factsOf(f))
	if err != nil {
		return plugin.Job{}, plugin.Errorf(plugin.Host, "", "which job is this? %v", err)
	}
	p := plugin.Job{
		Scheduler: j.Scheduler, ID: j.ID, Key: j.Key, Attempt: int64(j.Attempt), Sole: j.Sole, Step: j.Step,
		End: j.End, Grace: j.Grace, Comment: j.Comment, NoReturn: j.NoReturn, Warnings: j.Warnings,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[nameOf(p)] = j
	return p, nil
}

// nameOf tells a job and its incarnation from all others.
func nameOf(p plugin.Job) string {
	return p.Scheduler + " " + p.Key + " " + strconv.FormatInt(p.Attempt, 10)
}

// job is the adapter of a job, and the job as the adapter described it: again, if
// that was to another process than this one.
func (s *Scheduler) job(ctx context.Context, f plugin.Facts, p plugin.Job) (sched.Adapter, sched.Job, error) {
	s.mu.Lock()
	j, known := s.jobs[nameOf(p)]
	s.mu.Unlock()
	if !known {
		again, err := s.Job(ctx, f)
		if err != nil {
			return nil, j, err
		}
		return s.job(ctx, f, again)
	}
	a, _ := sched.Find(f.Getenv)
	return a, j, nil
}

// Plan implements plugin.Scheduler.
func (s *Scheduler) Plan(ctx context.Context, f plugin.Facts, p plugin.Job, e plugin.Event) (plugin.Intent, error) {
	_, j, err := s.job(ctx, f, p)
	switch {
	case err != nil:
		return plugin.Forward, err
	case e.Signal == 0, slices.Contains(j.Leave, e.Signal):
		return plugin.Leave, nil
	case slices.Contains(j.Ignore, e.Signal):
		return plugin.Ignore, nil
	}
	return plugin.Forward, nil
}

// insistence is how long an adapter may go on asking a batch system that does not
// answer. Hosts wait a little longer.
const insistence = 10 * time.Second

// Requeue implements plugin.Scheduler.
func (s *Scheduler) Requeue(ctx context.Context, f plugin.Facts, p plugin.Job) (plugin.Action, error) {
	ctx, cancel := context.WithTimeout(ctx, insistence)
	defer cancel()
	a, j, err := s.job(ctx, f, p)
	if err != nil {
		return plugin.Action{}, err
	}
	return actionOf(a.Leave(ctx, factsOf(f), j)), nil
}

// Hold implements plugin.Scheduler.
func (s *Scheduler) Hold(ctx context.Context, f plugin.Facts, p plugin.Job, reason string) (plugin.Action, error) {
	a, j, err := s.job(ctx, f, p)
	if err != nil {
		return plugin.Action{}, err
	}
	return actionOf(a.Hold(j, reason)), nil
}

// Show implements plugin.Scheduler.
func (s *Scheduler) Show(ctx context.Context, f plugin.Facts, p plugin.Job, text string) (plugin.Action, error) {
	a, j, err := s.job(ctx, f, p)
	if err != nil {
		return plugin.Action{}, err
	}
	return actionOf(a.Status(j, text)), nil
}

// Finish implements plugin.Scheduler.
func (s *Scheduler) Finish(ctx context.Context, f plugin.Facts, p plugin.Job, status int) (plugin.Action, error) {
	a, j, err := s.job(ctx, f, p)
	if who, wants := a.(sched.Finisher); wants && err == nil {
		return actionOf(who.Finish(j, status)), nil
	}
	return plugin.Action{}, err
}

// actionOf leaves out what is only for the better, which plugins do not know.
func actionOf(a sched.Action) plugin.Action {
	return plugin.Action{Commands: a.Commands, Settled: a.Settled, Exit: a.Exit, WaitForKill: a.WaitForKill, Note: a.Note}
}

func factsOf(p plugin.Facts) sched.Facts {
	f := sched.Facts{
		Env: p.Getenv, Ask: sched.Run, Command: p.Command, Dir: p.Dir, Pid: p.Pid, Now: p.Now, Read: sched.ReadFile,
		Stdout: sched.Stream{Regular: p.Stdout.File, Append: p.Stdout.Append, Path: p.Stdout.Path},
		Leader: p.Leader, Began: p.Began, Start: int(p.Start),
	}
	if h, err := host.Describe(); err == nil {
		f.HostLabel = host.Label(h)
	}
	return f
}
