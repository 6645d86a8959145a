// SPDX-License-Identifier: Apache-2.0

// Package plugin is how esky and other programs work together. A Provider starts,
// checkpoints and resumes jobs; a Scheduler knows one batch system. Both are Go
// interfaces, which serve inside a program as well as between two, by
// github.com/hashicorp/go-plugin over gRPC:
//
//	author   implements Provider or Scheduler; main calls Serve
//	host     Find, Open; (*Plugin).Provider and Scheduler give the same
//	         interfaces, spoken over a private socket
//
// Package wire beside this one has the messages, for other languages;
// package plugintest has tests that every implementation should pass.
// docs/writing-a-provider.md and docs/writing-a-scheduler.md are for authors.
//
// The memory of a job never travels through a plugin's socket: a provider reads
// and writes images by itself, in directories that the host names.
//
// provider.go, scheduler.go  the interfaces
// errors.go                  errors that keep their kind and hint
// serve.go                   the author's side of a process
// host.go, runner.go         the host's side of it
// find.go, trust.go          which program may be a plugin
// *_client.go, *_server.go   between interfaces and messages
package plugin
