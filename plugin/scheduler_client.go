// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	"google.golang.org/grpc"

	"github.com/esky-hpc/esky/plugin/wire"
)

// schedulerClient is a Scheduler at the other end of a connection.
type schedulerClient struct {
	peer
	w wire.SchedulerClient
}

func (c *schedulerClient) Describe(ctx context.Context) (SchedulerDescription, error) {
	a, err := soon(ctx, c.peer, c.w.About, &wire.AboutRequest{Host: "esky"})
	if err != nil {
		return SchedulerDescription{}, err
	}
	if !validName(a.Name) {
		return SchedulerDescription{}, c.nonsense("%.40q cannot be the name of a scheduler", a.Name)
	}
	return SchedulerDescription{Name: a.Name, Version: a.Version}, nil
}

func (c *schedulerClient) Detect(ctx context.Context, f Facts) (bool, error) {
	a, err := soon(ctx, c.peer, c.w.Detect, toFacts(f))
	return a.GetYes(), err
}

func (c *schedulerClient) Job(ctx context.Context, f Facts) (Job, error) {
	a, err := soon(ctx, c.peer, c.w.DescribeJob, toFacts(f))
	if err != nil {
		return Job{}, err
	}
	j := fromJob(a)
	if !validName(j.Key) || j.Grace < 0 || j.Attempt < 0 {
		return Job{}, c.nonsense("a job with the key %.40q, attempt %d, %s to leave", j.Key, j.Attempt, j.Grace)
	}
	return j, nil
}

func (c *schedulerClient) Plan(ctx context.Context, f Facts, j Job, e Event) (Intent, error) {
	a, err := soon(ctx, c.peer, c.w.Plan, &wire.PlanRequest{Facts: toFacts(f), Job: toJob(j), Signal: int32(e.Signal)})
	if err != nil {
		return Forward, err
	}
	i := Intent(a.Do)
	if i < Forward || i > Ignore {
		return Forward, c.nonsense("what signal %d means is %d", e.Signal, i)
	}
	return i, nil
}

func (c *schedulerClient) Constrain(ctx context.Context, f Facts, j Job, n Needs) (Action, error) {
	return action(ctx, c, c.w.Constrain, &wire.ConstrainRequest{
		Facts: toFacts(f), Job: toJob(j), Arch: n.Arch, Kernel: n.Kernel, CpuModel: n.CPUModel, CpuFeatures: n.CPUFeatures,
	})
}

func (c *schedulerClient) Requeue(ctx context.Context, f Facts, j Job) (Action, error) {
	return action(ctx, c, c.w.Requeue, &wire.JobRequest{Facts: toFacts(f), Job: toJob(j)})
}

func (c *schedulerClient) Hold(ctx context.Context, f Facts, j Job, reason string) (Action, error) {
	return action(ctx, c, c.w.Hold, &wire.HoldRequest{Facts: toFacts(f), Job: toJob(j), Reason: reason})
}

func (c *schedulerClient) Show(ctx context.Context, f Facts, j Job, text string) (Action, error) {
	return action(ctx, c, c.w.Show, &wire.ShowRequest{Facts: toFacts(f), Job: toJob(j), Text: text})
}

func (c *schedulerClient) Finish(ctx context.Context, f Facts, j Job, status int) (Action, error) {
	return action(ctx, c, c.w.FinishJob, &wire.FinishJobRequest{Facts: toFacts(f), Job: toJob(j), Status: int32(status)})
}

func action[Q any](ctx context.Context, c *schedulerClient, f func(context.Context, Q, ...grpc.CallOption) (*wire.Action, error), q Q) (Action, error) {
	w, err := soon(ctx, c.peer, f, q)
	if err != nil {
		return Action{}, err
	}
	a := fromAction(w)
	if a.Exit < 0 || a.Exit > 255 {
		return Action{}, c.nonsense("exit status %d", a.Exit)
	}
	for _, argv := range a.Commands {
		if len(argv) == 0 || argv[0] == "" {
			return Action{}, c.nonsense("an empty command")
		}
	}
	return a, nil
}
