// SPDX-License-Identifier: Apache-2.0

package pbs

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "at the walltime, at qdel, qrerun and preemption SIGTERM goes to all processes of the job, SIGKILL " + j.Later() +
			" (kill_delay of the queue)",
		Back:   j.By("the site's hook, for status 99: the same id, any host"),
		Output: f.Appended("PBS keeps it in its spool and appends, where the job comes back under its id"),
		Admin:  []string{"kill_delay of the queue bounds what can be saved at qdel, qrerun and preemption: qmgr -c \"set queue Q kill_delay = 120\""},
	}
	if f.Env(hookVar) == "" {
		o.Admin = append(o.Admin, "the hook scheduler-hooks/pbs/esky_rerun.py lets saved jobs come back under their id")
		if f.Env(sched.Resubmit) != "" {
			o.Back = "the command of " + sched.Resubmit + ", under another id"
		} else {
			o.User = append(o.User, "set "+sched.Resubmit+" to the qsub command that submits the job again, and name the job with --name")
		}
	}
	if j.End.IsZero() {
		o.User = append(o.User, "ask for a walltime (-l walltime=…), so that esky can leave ahead of it")
	}
	return o
}
