// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"syscall"

	"github.com/esky-hpc/esky/plugin/wire"
)

// schedulerServer gives calls that come over the wire to a Scheduler.
type schedulerServer struct {
	wire.UnimplementedSchedulerServer
	s Scheduler
}

func (s *schedulerServer) About(ctx context.Context, _ *wire.AboutRequest) (*wire.AboutAnswer, error) {
	d, err := s.s.Describe(ctx)
	return &wire.AboutAnswer{Name: d.Name, Version: d.Version}, toWire(ctx, err)
}

func (s *schedulerServer) Detect(ctx context.Context, q *wire.Facts) (*wire.Detected, error) {
	yes, err := s.s.Detect(ctx, fromFacts(q))
	return &wire.Detected{Yes: yes}, toWire(ctx, err)
}

func (s *schedulerServer) DescribeJob(ctx context.Context, q *wire.Facts) (*wire.SchedulerJob, error) {
	j, err := s.s.Job(ctx, fromFacts(q))
	return toJob(j), toWire(ctx, err)
}

func (s *schedulerServer) Plan(ctx context.Context, q *wire.PlanRequest) (*wire.Intent, error) {
	i, err := s.s.Plan(ctx, fromFacts(q.Facts), fromJob(q.Job), Event{Signal: syscall.Signal(q.Signal)})
	return &wire.Intent{Do: wire.Intent_Do(i)}, toWire(ctx, err)
}

func (s *schedulerServer) Constrain(ctx context.Context, q *wire.ConstrainRequest) (*wire.Action, error) {
	a, err := s.s.Constrain(ctx, fromFacts(q.Facts), fromJob(q.Job), Needs{
		Arch: q.Arch, Kernel: q.Kernel, CPUModel: q.CpuModel, CPUFeatures: q.CpuFeatures,
	})
	return toAction(a), toWire(ctx, err)
}

func (s *schedulerServer) Requeue(ctx context.Context, q *wire.JobRequest) (*wire.Action, error) {
	a, err := s.s.Requeue(ctx, fromFacts(q.Facts), fromJob(q.Job))
	return toAction(a), toWire(ctx, err)
}

func (s *schedulerServer) Hold(ctx context.Context, q *wire.HoldRequest) (*wire.Action, error) {
	a, err := s.s.Hold(ctx, fromFacts(q.Facts), fromJob(q.Job), q.Reason)
	return toAction(a), toWire(ctx, err)
}

func (s *schedulerServer) Show(ctx context.Context, q *wire.ShowRequest) (*wire.Action, error) {
	a, err := s.s.Show(ctx, fromFacts(q.Facts), fromJob(q.Job), q.Text)
	return toAction(a), toWire(ctx, err)
}

func (s *schedulerServer) FinishJob(ctx context.Context, q *wire.FinishJobRequest) (*wire.Action, error) {
	a, err := s.s.Finish(ctx, fromFacts(q.Facts), fromJob(q.Job), int(q.Status))
	return toAction(a), toWire(ctx, err)
}
