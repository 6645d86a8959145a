// SPDX-License-Identifier: Apache-2.0

package oar

import (
	"regexp"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

var severalHosts = regexp.MustCompile(`/?\b(nodes|host|network_address)=([2-9]|1[0-9])[0-9]*`)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#OAR" }

// Read implements sched.ScriptReader.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	all := strings.Join(s.Options, " ")
	if asked := severalHosts.FindString(all); asked != "" {
		told = append(told, sched.OnSeveralHosts("-l "+asked, "ask for nodes=1"))
	}
	if strings.Contains(all, "gpu") {
		told = append(told, sched.OnGPU("-l …gpu"))
	}
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
