// SPDX-License-Identifier: Apache-2.0

package oar

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "the signal of --signal (12, SIGUSR2) goes to the job's first process, --checkpoint SECONDS ahead of the walltime or at oardel -c; " +
			"oardel and the walltime itself kill",
		Back:   j.By("OAR, for status 99 after at least a minute: under another id, any host that the job's properties allow"),
		Output: "what comes after that goes to the files of the new id (OAR.ID.stdout)",
		User:   []string{"submit with --checkpoint SECONDS --signal 12, for a killed job is not submitted again"},
	}
	if j.NoReturn != "" {
		o.User = append(o.User, "submit with -t idempotent")
	}
	return o
}
