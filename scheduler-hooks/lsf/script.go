// SPDX-License-Identifier: Apache-2.0

package lsf

import "github.com/esky-hpc/esky/internal/sched"

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#BSUB" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if !s.Has("-wa") || !s.Has("-wt") {
		told = append(told, "nothing warns the job ahead of its run limit: add -wa USR1 -wt MINUTES")
	}
	if !s.Has("-r") {
		told = append(told, "the job does not come back after its host has failed: add -r")
	}
	if s.Has("-I", "-Is", "-Ip") {
		told = append(told, "interactive jobs are not queued again: run the same line once more to go on")
	}
	if s.Has("-oo") {
		told = append(told, "-oo empties the output file each time the job comes back: use -o")
	}
	return told
}
