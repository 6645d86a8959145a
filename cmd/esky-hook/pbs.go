// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/esky-hpc/esky/internal/guard"
)

// OpenPBS and PBS Pro, MoM's configuration:
//
//	$action checkpoint       600 !/usr/local/bin/esky-hook pbs-checkpoint %jobid %uid %gid %path
//	$action checkpoint_abort 600 !/usr/local/bin/esky-hook pbs-abort %jobid %uid %gid %path
//	$action restart           60 !/usr/local/bin/esky-hook pbs-restart %jobid %uid %gid %path
//	$restart_transmogrify true
//
// MoM calls them as root, without standard streams. %path is a name in a directory
// of root's alone; what is made there is given back at the restart, whose process
// then is the job.

// pbsJob is the job of the arguments.
func pbsJob(args []string, _ func(string) string) (job, error) {
	if len(args) != 4 {
		return job{}, errors.New("the arguments are %jobid %uid %gid %path")
	}
	j := job{id: args[0]}
	if !plainID(j.id) {
		return job{}, fmt.Errorf("%.40q is no job's id", j.id)
	}
	var err error
	if j.user.UID, err = guard.Number("%uid", args[1]); err != nil {
		return j, err
	}
	j.user.GID, err = guard.Number("%gid", args[2])
	return j, err
}

// plainID keeps ids of jobs to what schedulers make: no option, no path.
func plainID(id string) bool {
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune(".[]-_", c) {
			return false
		}
	}
	return id != "" && id[0] != '-' && id[0] != '.' && len(id) < 256
}

// answerRecord saves the job and writes its record to standard output.
func answerRecord(stop bool) func(job, []string) error {
	return func(j job, _ []string) error {
		text, err := saveNative(j.id, stop)
		if err == nil {
			_, err = os.Stdout.Write(text)
		}
		return err
	}
}

// pbsKeep puts the record where MoM wants a checkpoint. It is root's: the
// directory must be root's alone.
func pbsKeep(args []string, answer []byte) error { return writeRecord(args[3], answer) }

// pbsSaved is the job of a restart, with its record.
func pbsSaved(args []string, env func(string) string) (job, error) {
	j, err := pbsJob(args, env)
	if err == nil {
		j.record, err = readRecord(args[3])
	}
	return j, err
}

// goOn is the restart: this process, the user's by now, becomes the job.
func goOn(j job, _ []string) error { return execRecord(j.record) }
