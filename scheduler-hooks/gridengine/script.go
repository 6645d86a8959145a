// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"slices"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#$" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	if i := slices.Index(s.Options, "-pe"); i >= 0 && i+2 < len(s.Options) && s.Options[i+2] != "1" { // its name and the slots
		told = append(told, sched.OnSeveralHosts("-pe "+s.Options[i+1]+" "+s.Options[i+2], "choose a parallel environment whose slots are on one ($pe_slots)"))
	}
	all := strings.Join(s.Options, " ")
	if strings.Contains(all, "gpu") {
		told = append(told, sched.OnGPU("-l gpu"))
	}
	if name := s.Value("-ckpt"); name != "" && name != "esky" {
		told = append(told, "-ckpt "+name+": environments of others mostly kill a job that is suspended, without having esky save it: use -ckpt esky")
	}
	switch {
	case s.Has("-notify"):
	case s.Has("-ckpt"):
		told = append(told, "without -notify, qdel and the end of h_rt give the job no time to save itself: add -notify")
	default:
		told = append(told, "without -notify, qdel, suspension and the end of h_rt give the job no time to save itself: add -notify")
	}
	if !strings.Contains(all, "_rt=") {
		told = append(told, "no -l h_rt=…: the limit of the queue counts, which esky cannot see; leave ahead of it with --every, or ask for h_rt")
	}
	if r := s.Value("-r"); r == "n" || r == "no" {
		told = append(told, "-r n: the job does not come back after its host has failed: use -r y")
	}
	return told
}
