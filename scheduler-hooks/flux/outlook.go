// SPDX-License-Identifier: Apache-2.0

package flux

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "SIGALRM at the time limit, SIGTERM at a cancellation, to the script and its jobs, SIGKILL " + j.Later() +
			" (exec.kill-timeout); --signal=SIG@TIME warns earlier",
		Back:   j.By("Flux"),
		Output: "that of the successor goes to a file of its own, unless --output names one with --output-mode or the script redirects by >>",
		User:   []string{"submit with --signal=SIGUSR1@5m"},
		Admin:  []string{"exec.kill-timeout is all that an unannounced end leaves: 5 s unless it says more"},
	}
	if f.Env(sched.Resubmit) != "" {
		o.Back = "the command of " + sched.Resubmit + ", under another id"
	} else {
		o.User = append(o.User, "set "+sched.Resubmit+" to the command that submits the successor, and name the job with --name")
	}
	return o
}
