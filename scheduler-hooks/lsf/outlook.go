// SPDX-License-Identifier: Apache-2.0

package lsf

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster. LSF's environment does not tell of -wa,
// -W and -r.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "at bkill and preemption SIGINT and SIGTERM, SIGKILL " + j.Later() + " than the first (JOB_TERMINATE_INTERVAL); " +
			"at the run limit SIGUSR2, and ten minutes; earlier what -wa says, -wt minutes ahead",
		Back:   j.By("esky asks for it (brequeue): the same id, any host"),
		Output: f.Appended("LSF appends to it, unless the job was submitted with -oo or -eo"),
		User:   []string{"submit with -wa USR1 -wt MINUTES, to be warned ahead of the run limit, and with -r, to come back after a failure of the host"},
		Admin:  []string{"echkpnt.esky and erestart.esky in LSF_SERVERDIR let bchkpnt and bmig save and move jobs: scheduler-hooks/lsf"},
	}
	if j.Grace == 0 {
		o.Warned = "at bkill and preemption SIGKILL at once: it is a parallel job"
		o.Admin = append(o.Admin, "LSB_USE_SEQUENTIAL_SIGNAL=y in lsf.conf warns parallel jobs too")
	}
	return o
}
