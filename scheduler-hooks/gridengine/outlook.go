// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"context"

	"github.com/esky-hpc/esky/internal/sched"
)

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "without a warning: qdel, suspension and h_rt are SIGKILL or SIGSTOP at once; s_rt sends SIGUSR1",
		Back:   j.By("Grid Engine, for status 99: the same id, any host that the job's requests allow"),
		Output: f.Appended("Grid Engine appends to it"),
		Admin:  []string{"a checkpointing environment lets suspended jobs move away: scheduler-hooks/gridengine"},
	}
	if f.Env("SGE_CKPT_ENV") != "" && migrates(context.Background(), f) {
		o.Admin = nil
		o.Warned = "suspension: its checkpointing environment saves the job, and it moves; qdel and h_rt are SIGKILL at once; s_rt sends SIGUSR1"
	}
	if j.Grace > 0 {
		o.Warned = "SIGUSR2 before qdel and h_rt, SIGUSR1 before suspension, SIGKILL " + j.Later() + " (notify of the queue); s_rt sends SIGUSR1"
	} else {
		o.User = append(o.User, "submit with -notify")
	}
	if j.NoReturn != "" {
		o.User = append(o.User, "submit it by qsub")
	}
	return o
}
