// SPDX-License-Identifier: Apache-2.0

// Package flux is what esky knows about Flux, as its manual has it.
//
//   - "flux batch --signal=SIG@TIME" (SIGUSR1, 60 s) warns the script and its
//     jobs ahead of the time limit. At the limit comes SIGALRM, at other ends
//     SIGTERM; SIGKILL follows after exec.kill-timeout, 5 s.
//   - There is no requeue: what is to go on is another job, which the user submits
//     with "--dependency=afterany:ID".
package flux

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

const killTimeout = 5 * time.Second

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "flux" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("FLUX_JOB_ID") != "" }

// Describe implements sched.Adapter.
func (Adapter) Describe(ctx context.Context, f sched.Facts) (sched.Job, error) {
	j := f.Renamed("flux", f.Env("FLUX_JOB_ID"))
	j.Grace, j.NoReturn = killTimeout, "Flux does not start a job again"
	if rank := f.Env("FLUX_TASK_RANK"); rank != "" && rank != "0" {
		j.Key += "." + rank
	}
	left, err := timeLeft(ctx, f.Ask)
	if err != nil {
		j.Warnings = append(j.Warnings, fmt.Sprintf("Flux does not tell when the job ends: %v", err))
	} else if left > 0 {
		j.End = f.Now.Add(left)
	}
	return j, nil
}

// timeLeft asks for the seconds left; 0 means no limit.
func timeLeft(ctx context.Context, ask sched.Ask) (time.Duration, error) {
	out, err := ask(ctx, "flux", "job", "timeleft")
	if err != nil {
		return 0, err
	}
	out = strings.TrimSpace(out)
	if strings.HasPrefix(out, "inf") {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(out, 64)
	if err != nil {
		return 0, fmt.Errorf("flux job timeleft answers %q", out)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// Leave implements sched.Adapter.
func (Adapter) Leave(_ context.Context, f sched.Facts, _ sched.Job) sched.Action {
	return f.SubmitAgain("Flux")
}
