// SPDX-License-Identifier: Apache-2.0

package slurm

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "at the time limit, at preemption, scancel and requeue SIGTERM goes to the job, SIGKILL " + j.Later() +
			" (KillWait); before that only to srun's steps (GraceTime, --signal) or to the script (--signal=B:…)",
		Back:   j.By("esky asks for it (scontrol requeue), after a failure of the host Slurm does: the same id, any host"),
		Output: f.Appended("Slurm opens it again: --open-mode or JobFileAppend says whether to append"),
		Admin:  []string{"KillWait is all that an unannounced end leaves: more of it lets larger jobs be saved"},
	}
	switch j.NoReturn {
	case interactive:
		o.User = append(o.User, "submit it by sbatch")
	case noRequeue:
		o.Back = "esky asks for it (scontrol requeue); after a failure of the host nobody does: " + noRequeue
	}
	if j.End.IsZero() {
		o.User = append(o.User, sched.Every)
	}
	return o
}
