// SPDX-License-Identifier: Apache-2.0

package lsf

import (
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#BSUB" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	all := strings.Join(s.Options, " ")
	if n := s.Value("-n"); n != "" && n != "1" {
		if !strings.Contains(all, "hosts=1]") {
			told = append(told, sched.OnSeveralHosts("-n "+n, "add -R \"span[hosts=1]\""))
		}
		told = append(told, "LSF kills a parallel job without a warning, unless the site has LSB_USE_SEQUENTIAL_SIGNAL=y: let it save itself now and then, by --every")
	}
	if s.Has("-gpu") || strings.Contains(all, "ngpus") {
		told = append(told, sched.OnGPU("-gpu"))
	}
	if k := strings.Index(all, "method="); s.Has("-k") && k >= 0 && !strings.HasPrefix(all[k:], "method=esky") {
		told = append(told, "-k: a method of somebody else's does not save what runs under esky: write method=esky")
	}
	if !s.Has("-wa") || !s.Has("-wt") {
		told = append(told, "nothing warns the job ahead of its run limit: add -wa USR1 -wt MINUTES")
	}
	if !s.Has("-r") {
		told = append(told, "the job does not come back after its host has failed: add -r")
	}
	if s.Has("-I", "-Is", "-Ip") {
		told = append(told, "interactive jobs are not queued again: run the same line once more to go on")
	}
	if s.Has("-oo", "-eo") {
		told = append(told, "-oo and -eo empty their file each time the job comes back: use -o and -e")
	}
	return told
}
