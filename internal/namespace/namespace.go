// SPDX-License-Identifier: Apache-2.0

// Package namespace gives a job a world of its own: a user, pid and mount
// namespace (and, when it is resumed, a time namespace), all of which an
// ordinary user may make. In them a resumed job gets exactly its old pids, and
// its monotonic clock goes on where it stopped.
//
// Launch, in the monitor, starts the init of those namespaces by executing the
// same binary again; InitMain is what runs there, as pid 1. The init reaps
// orphans and ends, with the exit status of the main process, when the last
// process of the job has ended. It needs nothing of the monitor after the
// start: should the monitor die, the job lives on.
package namespace

import (
	"os"
	"syscall"
	"time"
)

// Verb is the hidden first argument that makes the binary an init.
const Verb = "__init"

// RequestSignal is what a program's preload library sends to pid 1 to ask for
// a checkpoint: SIGRTMAX-3.
const RequestSignal = 61

// MainStatusSuffix is added to StatusPath for the file that has the status of
// the main process as soon as that has ended.
const MainStatusSuffix = ".main"

// FirstPid is what the job's pids begin after, so that they can never be those
// of the init's own threads when the job is resumed.
const FirstPid = 1000

// Config is what the monitor tells the init. It goes by gob, which keeps strings of
// any bytes; JSON would put U+FFFD in the place of what is not UTF-8.
type Config struct {
	StatusPath string
	Shim       bool   // without namespaces
	IDs        string // in that case the file for the table of numbers (package ids)
	Start      *Start
	Resume     *Resume
}

// Start asks for a new program.
type Start struct {
	Path string // what to execute
	Argv []string
	Env  []string
	Dir  string
	// Ignore are signals that the program is started with ignored, as nohup(1)
	// does: they would end it, and it is not the program that they are meant for.
	Ignore []syscall.Signal
}

// Resume asks for a seed: a tiny process of which a restorer makes the job.
type Resume struct {
	Seed      []byte // ELF executable
	MainPid   int    // in the namespace; 0 if the main process had ended
	MainExit  Exit   // in that case
	Monotonic time.Duration
	Boottime  time.Duration
}

// Streams are what the init has as standard input, output and error, and the job
// with it; the caller's own where they are nil.
type Streams [3]*os.File

// report is what the init tells the monitor.
type report struct {
	Ready   bool // the program, or the seed, runs
	Pid     int  // its pid in the namespace
	Error   string
	Kind    string // exec or namespace
	Status  int
	Note    string
	Request bool // a program asks for a checkpoint
}

// SeedInitFD is the seed's descriptor of the init's directory in /proc.
const SeedInitFD = 3

// Descriptors of the init, in the order of exec.Cmd.ExtraFiles.
const (
	configFD = 3 + iota
	reportFD
	lockFD
)

func privileged() bool { return os.Geteuid() == 0 }
