// SPDX-License-Identifier: Apache-2.0

package oar

import "github.com/esky-hpc/esky/internal/sched"

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#OAR" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if !s.Has("idempotent") {
		told = append(told, "OAR submits only jobs of type idempotent again: add -t idempotent")
	}
	if !s.Has("--checkpoint") {
		told = append(told, "nothing warns the job before it is killed, and a killed job is not submitted again: add --checkpoint SECONDS --signal 12")
	}
	if !s.Mentions("--name") {
		told = append(told, "the job comes back under another id, and finds its images by command line and directory: name it with --name")
	}
	return told
}
