// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// job is the one that a hook was called for.
type job struct {
	id  string // the number that the scheduler's variables have, in decimal
	uid int
	gid int
}

// jobOf reads the variables that Slurm gives to Prolog and Epilog.
func jobOf(env func(string) string) (job, error) {
	id, err := number(env, "SLURM_JOB_ID")
	if err != nil {
		return job{}, err
	}
	uid, err := number(env, "SLURM_JOB_UID")
	if err != nil {
		return job{}, err
	}
	gid, err := number(env, "SLURM_JOB_GID")
	if err != nil {
		return job{}, err
	}
	return job{id: strconv.Itoa(id), uid: uid, gid: gid}, nil
}

// number accepts only what can name a job, a user or a group other than root's.
func number(env func(string) string, key string) (int, error) {
	n, err := strconv.ParseUint(env(key), 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is %q, not a positive number", key, env(key))
	}
	return int(n), nil
}

// become gives up root for the job's user, for good: the supplementary groups
// first, while we still may, then the group, then the user with all three ids.
// The user's own supplementary groups are left out: what a hook touches belongs
// to the user. Called by the user in question it does nothing.
func (j job) become() error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	syscall.Umask(0o077)
	if os.Geteuid() == j.uid && os.Getuid() == j.uid {
		return nil
	}
	if err := syscall.Setgroups([]int{j.gid}); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(j.gid, j.gid, j.gid); err != nil {
		return fmt.Errorf("set group %d: %w", j.gid, err)
	}
	if err := syscall.Setresuid(j.uid, j.uid, j.uid); err != nil {
		return fmt.Errorf("set user %d: %w", j.uid, err)
	}
	if syscall.Setresuid(-1, 0, -1) == nil {
		return fmt.Errorf("user %d can become root again", j.uid)
	}
	return nil
}
