// SPDX-License-Identifier: Apache-2.0

// esky-provider serves esky's own way of saving jobs to any program that is a host
// of plugins (package plugin): it starts, checkpoints and resumes jobs for it.
// People do not start it.
package main

import (
	"fmt"
	"os"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/internal/version"
	"github.com/esky-hpc/esky/plugin"
)

func main() {
	// The workers of package engine and the helpers of package host are this same
	// binary; they never come back.
	if engine.WorkerMain(os.Args) {
		return
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case host.Verb:
			host.ProbeMain(os.Args[2:])
		case "--version":
			fmt.Println("esky-provider", version.String())
			return
		}
	}
	plugin.Serve(plugin.ServeConfig{Provider: native.New(version.String())})
}
