// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/esky-hpc/esky/internal/guard"
)

// job is the one that a hook was called for.
type job struct {
	id   string // the number that the scheduler's variables have, in decimal
	user guard.User
	// record is what a checkpoint left for a restart, unread.
	record []byte
}

// slurmJob reads the variables that Slurm gives to Prolog and Epilog.
func slurmJob(_ []string, env func(string) string) (job, error) {
	id, err := guard.Number("SLURM_JOB_ID", env("SLURM_JOB_ID"))
	if err != nil {
		return job{}, err
	}
	uid, err := guard.Number("SLURM_JOB_UID", env("SLURM_JOB_UID"))
	if err != nil {
		return job{}, err
	}
	gid, err := guard.Number("SLURM_JOB_GID", env("SLURM_JOB_GID"))
	if err != nil {
		return job{}, err
	}
	return job{id: strconv.Itoa(id), user: guard.User{UID: uid, GID: gid}}, nil
}
