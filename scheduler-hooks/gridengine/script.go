// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#$" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	switch {
	case s.Has("-notify"):
	case s.Has("-ckpt"):
		told = append(told, "without -notify, qdel and the end of h_rt give the job no time to save itself: add -notify")
	default:
		told = append(told, "without -notify, qdel, suspension and the end of h_rt give the job no time to save itself: add -notify")
	}
	if !strings.Contains(strings.Join(s.Options, " "), "_rt=") {
		told = append(told, "no -l h_rt=…: the limit of the queue counts, which esky cannot see; leave ahead of it with --every, or ask for h_rt")
	}
	if s.Value("-r") == "n" {
		told = append(told, "-r n: the job does not come back after its host has failed: use -r y")
	}
	return told
}
