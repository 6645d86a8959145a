// SPDX-License-Identifier: Apache-2.0

package pbs

import (
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#PBS" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if !strings.Contains(strings.Join(s.Options, " "), "walltime=") {
		told = append(told, "no -l walltime=…: the end of the job is the queue's, and all that warns of it is SIGTERM, 10 s ahead: ask for a walltime")
	}
	switch {
	case !s.Mentions(sched.Resubmit):
		told = append(told, "PBS starts no job again that left by itself, unless the site has esky's hook (ask your administrator for scheduler-hooks/pbs): "+
			"without it set "+sched.Resubmit+" to the qsub command that does, and name the job with --name")
	case !s.Mentions("--name"):
		told = append(told, "the job that "+sched.Resubmit+" submits has another id, and finds its images by name only: add --name")
	}
	if s.Value("-r") == "n" {
		told = append(told, "-r n: the job does not come back after its host has failed: use -r y")
	}
	return told
}
