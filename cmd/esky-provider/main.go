// SPDX-License-Identifier: Apache-2.0

// esky-provider serves esky's own ways of saving jobs to any program that is a host
// of plugins (package plugin): it starts, checkpoints and resumes jobs for it, and
// tells it of the batch systems that esky knows. Its argument says by which provider:
// native (also without one), application, criu, dmtcp. People do not start it.
package main

import (
	"fmt"
	"os"

	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/internal/providers"
	"github.com/esky-hpc/esky/internal/schedulers"
	"github.com/esky-hpc/esky/internal/version"
	"github.com/esky-hpc/esky/plugin"
)

func main() {
	if providers.Main(os.Args) {
		return
	}
	name := native.Name
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	if name == "--version" {
		fmt.Println("esky-provider", version.String())
		return
	}
	make, known := providers.All[name]
	if !known {
		fmt.Fprintf(os.Stderr, "esky-provider: there is no provider %q here\n", name)
		os.Exit(64) // EX_USAGE, sysexits.h
	}
	plugin.Serve(plugin.ServeConfig{Provider: make(version.String()), Scheduler: schedulers.New(version.String())})
}
