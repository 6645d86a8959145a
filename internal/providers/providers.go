// SPDX-License-Identifier: Apache-2.0

// Package providers has those that are part of esky: `esky-wrap run --provider` has
// them in its own process, esky-provider serves them to other programs.
package providers

import (
	"github.com/esky-hpc/esky/internal/application"
	"github.com/esky-hpc/esky/internal/criu"
	"github.com/esky-hpc/esky/internal/dmtcp"
	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/plugin"
)

// All makes each of them, by the name that users write.
var All = map[string]func(version string) plugin.Provider{
	native.Name:      func(version string) plugin.Provider { return native.New(version) },
	application.Name: func(version string) plugin.Provider { return application.New(version) },
	criu.Name:        func(version string) plugin.Provider { return criu.New(version) },
	dmtcp.Name:       func(version string) plugin.Provider { return dmtcp.New(version) },
}

// Main runs the helper process that the arguments of this program name, and tells
// whether there was one. Every program that has the providers in it calls it first:
// the helpers are that same program.
func Main(args []string) bool {
	if len(args) > 1 && args[1] == host.Verb {
		host.ProbeMain(args[2:]) // does not return
	}
	return engine.WorkerMain(args) || application.KeeperMain(args) || criu.KeeperMain(args) || dmtcp.KeeperMain(args)
}
