// SPDX-License-Identifier: Apache-2.0

package nomad

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(_ sched.Facts, j sched.Job) sched.Outlook {
	later := j.Later()
	if j.Grace == 0 {
		later = "5s later, unless kill_timeout says more"
	}
	return sched.Outlook{
		Warned: "kill_signal (SIGINT) goes to the task, SIGKILL " + later,
		Back:   j.By("Nomad's restart and reschedule blocks: here or on another client"),
		Output: "a new allocation has a log of its own: let the program write to files on the volume",
		User:   []string{"kill_timeout is yours to set, up to the client's max_kill_timeout"},
		Admin:  []string{"max_kill_timeout of the clients (30 s) bounds what can be saved"},
	}
}
