// SPDX-License-Identifier: Apache-2.0

package pbs

import (
	"regexp"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// severalHosts are chunks (select=2:…, 1:…+1:…) or nodes (nodes=2:ppn=8) that PBS may
// place on several.
var severalHosts = regexp.MustCompile(`(?:\b(?:select|nodes)=(?:[2-9]|1[0-9])[^\s,]*|\b(?:select|nodes)=[^\s,]*\+[^\s,]*)`)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#PBS" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	all := strings.Join(s.Options, " ")
	if asked := severalHosts.FindString(all); asked != "" && !strings.Contains(all, "place=pack") {
		told = append(told, sched.OnSeveralHosts("-l "+strings.Trim(asked, " ,"), "ask for one chunk, or place=pack"))
	}
	if strings.Contains(all, "gpus=") {
		told = append(told, sched.OnGPU("-l …gpus="))
	}
	if s.Has("-I") {
		told = append(told, "-I: an interactive job is not queued again: run the same line once more to go on")
	}
	if !strings.Contains(all, "walltime=") {
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
