// SPDX-License-Identifier: Apache-2.0

// Package monitor is the life of one job on one host: it starts or resumes the
// job, sleeps while the job runs, checkpoints it when there is a reason to, and
// hands it back to the batch system when it must leave.
//
// Flow (run.go): find out which job this is and where its images are; take the
// lock of its store; take an incarnation token; resume the newest good image or
// start the program; live (life.go) until there is an outcome; end (end.go).
//
// Who does what:
//
//	life.go     the state machine; one goroutine, which owns all state and
//	            never blocks on anything slow
//	save.go     one checkpoint, in a goroutine of its own; its result is an event
//	control.go  the control socket; a goroutine a connection, each of which
//	            sends requests to the state machine and waits for the answer
//	policy.go   when to checkpoint; pure functions
//	signals.go  which signals mean what
//	lock.go     who may run the job, and taking over from a dead monitor
//	guard.go    no resuming for ever without progress
//
// Nothing ticks: between events the process sleeps in one select, with at most
// one timer, set to the next moment at which there is something to decide.
package monitor
