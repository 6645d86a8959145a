// SPDX-License-Identifier: Apache-2.0

package htcondor

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "at an eviction kill_sig (SIGTERM) goes to the job's first process, SIGKILL " + j.Later() +
			" (job_max_vacate_time, and no more than the host's MachineMaxVacateTime)",
		Back:   j.By("HTCondor by itself: the same id, any host that matches"),
		Output: "it goes on where it is named in transfer_checkpoint_files; a new run empties it else",
		Admin:  []string{"MachineMaxVacateTime bounds what can be saved at an eviction"},
	}
	if j.Grace == 0 {
		o.User = append(o.User, "say how long saving takes: job_max_vacate_time = SECONDS")
	}
	if j.End.IsZero() {
		o.User = append(o.User, sched.Every)
	}
	return o
}
