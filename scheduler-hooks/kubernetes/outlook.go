// SPDX-License-Identifier: Apache-2.0

package kubernetes

import "github.com/esky-hpc/esky/internal/sched"

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(_ sched.Facts, j sched.Job) sched.Outlook {
	o := sched.Outlook{
		Warned: "SIGTERM goes to the container's first process, SIGKILL " + j.Later() + " (terminationGracePeriodSeconds)",
		Back:   j.By("the Job makes another pod, on any node; Kueue when there is room again"),
		Output: "the new pod has a log of its own: let the program write to files on the volume",
		User:   []string{"terminationGracePeriodSeconds is yours to set: as long as saving takes, twice"},
		Admin:  []string{"users' namespaces must be allowed in pods: esky-wrap doctor in one says whether they are"},
	}
	if !j.Sole {
		o.User = append(o.User, "let the container's first process be esky-wrap, for nothing else gets the signal")
	}
	return o
}
