// SPDX-License-Identifier: Apache-2.0

package flux

import "github.com/esky-hpc/esky/internal/sched"

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#flux:" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if !s.Mentions(sched.Resubmit) {
		told = append(told, "Flux starts no job again: set "+sched.Resubmit+" to the flux command that submits its successor")
	}
	if !s.Mentions("--name") {
		told = append(told, "the successor has another id, and finds its images by command line and directory: name the job with --name")
	}
	if !s.Has("--signal") {
		told = append(told, "5 s lie between the time limit's SIGALRM and the kill: add --signal=SIGUSR1@5m")
	}
	return told
}
