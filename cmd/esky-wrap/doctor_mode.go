// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
)

// ofNamespaces are the checks that shim mode does without. That of ptrace is made
// inside the namespaces; outside the preload library allows it, under Yama 1 too.
var ofNamespaces = []string{host.CheckUserNS, host.CheckPidNS, host.CheckPids, host.CheckTimeNS, host.CheckPtrace}

// chooseMode says how jobs live here. Where only namespaces are missing it is shim
// mode, and these are not needed.
func (d *diagnosis) chooseMode() {
	d.Mode = engine.ModeNamespace
	missing := host.Missing(d.Checks)
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if len(missing) == 0 || !allOfNamespaces(missing) || strings.TrimSpace(string(scope)) > "1" {
		return
	}
	d.Mode = engine.ModeShim
	for i, c := range d.Checks {
		if !c.OK && allOfNamespaces([]host.Check{c}) {
			d.Checks[i].Needed = false
		}
	}
	d.Warnings = append(d.Warnings, "jobs run in shim mode, for want of namespaces: process numbers and clocks of a resumed job are translated "+
		"by a preload library; programs that are static or written in Go come back only if their old numbers are free; terminals that the job opens may get "+
		"other numbers; System V objects and POSIX message queues are refused (docs/limits.md)")
}

func allOfNamespaces(checks []host.Check) bool {
	for _, c := range checks {
		known := false
		for _, name := range ofNamespaces {
			known = known || c.Name == name
		}
		if !known {
			return false
		}
	}
	return true
}
