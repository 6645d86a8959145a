// SPDX-License-Identifier: Apache-2.0

package flux

import "github.com/esky-hpc/esky/internal/sched"

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#flux:|# flux:|#FLUX:|# FLUX:" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if n := s.Value("--nodes", "-N"); n != "" && n != "1" {
		told = append(told, sched.OnSeveralHosts("--nodes="+n, "ask for --nodes=1"))
	}
	if s.Value("--gpus-per-node", "--gpus-per-task", "--gpus-per-slot", "-g") != "" {
		told = append(told, sched.OnGPU("--gpus-per-…"))
	}
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
