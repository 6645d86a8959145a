// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"path/filepath"

	"github.com/esky-hpc/esky/internal/guard"
)

// Torque, MoM's configuration, which takes a program without arguments; so these
// are links to this one:
//
//	$checkpoint_script /usr/local/libexec/esky/scheduler-hooks/pbs/torque-checkpoint
//	$restart_script    /usr/local/libexec/esky/scheduler-hooks/pbs/torque-restart
//
// MoM calls them as root, with session, job, user, group, directory and name; and
// for a checkpoint the signal (15: the job is to end, 0: it runs on) and a depth.
// The directory is the user's, and goes to the server and from there to the host
// of the restart. The restart is called in the job's own session, and the job has
// ended when it has.

const (
	torqueRestartArgs    = 6
	torqueCheckpointArgs = 8
	torqueAbort          = "15"
)

// torqueJob is the job of the arguments.
func torqueJob(args []string, _ func(string) string) (job, error) {
	if len(args) != torqueCheckpointArgs && len(args) != torqueRestartArgs || !plainID(args[1]) {
		return job{}, errors.New("the arguments are session, job, user, group, directory, name, signal, depth")
	}
	u, err := guard.Named(args[2], args[3])
	return job{id: args[1], user: u}, err
}

func torqueCheckpoint(j job, args []string) error {
	if len(args) != torqueCheckpointArgs {
		return errors.New("a checkpoint has eight arguments")
	}
	text, err := saveNative(j.id, args[6] == torqueAbort)
	if err != nil {
		return err
	}
	return writeRecord(filepath.Join(args[4], args[5]), text)
}

func torqueRestart(_ job, args []string) error { return execRecordAt(filepath.Join(args[4], args[5])) }
