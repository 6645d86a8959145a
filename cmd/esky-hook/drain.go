// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/guard"
	"github.com/esky-hpc/esky/internal/store"
)

const (
	mostNote = 16 << 10 // a note is two paths and a name
	// What stage is told where the job's images are.
	commentVariable = "SLURM_JOB_COMMENT"
	dirVariable     = "SLURM_JOB_WORK_DIR"
	localVariable   = "ESKY_LOCAL"
)

// slurmJobInGroups is a job whose files may belong to any of the user's groups.
func slurmJobInGroups(args []string, env func(string) string) (job, error) {
	j, err := slurmJob(args, env)
	if err == nil {
		j.user = j.user.AllGroups()
	}
	return j, err
}

// drain brings the images of dead monitors from this host to their stores. Which
// job they are of does not matter: an image without a monitor waits for us.
func drain(j job, _ []string) error {
	return eachName(j.monitors(), func(dir *guard.Dir, name string) error {
		if !strings.HasSuffix(name, store.NoteSuffix) || monitored(dir, name) {
			return nil
		}
		return drainNote(dir, name)
	})
}

// monitored tells whether the monitor that wrote the note lives: it holds the
// lock beside it (flock(2)).
func monitored(dir *guard.Dir, note string) bool {
	f, err := dir.OpenFile(strings.TrimSuffix(note, store.NoteSuffix) + ".lock")
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func drainNote(dir *guard.Dir, name string) error {
	text, err := dir.ReadFile(name, mostNote)
	if err != nil {
		return err
	}
	note, err := store.ReadNote(text)
	if err != nil {
		return err
	}
	number, err := note.Drain(context.Background())
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%s runs: its images stay in %s", note.Job, note.Near)
	}
	if number != 0 && err == nil {
		fmt.Printf("brought image %d of %s to %s\n", number, note.Job, note.Store)
	}
	if err == nil || errors.Is(err, store.ErrStale) || errors.Is(err, store.ErrNoJob) {
		return errors.Join(err, dir.Remove(name))
	}
	return fmt.Errorf("%s in %s: %w", note.Job, note.Store, err)
}

// stage brings the newest image of a job that is about to be run again to the
// site's fast place on this host, and so has it checked before the job begins. The
// job's comment says where the images are; without one, they are looked for where
// they are by default.
func stage(j job, _ []string) error {
	local := os.Getenv(localVariable)
	if local == "" {
		return nil
	}
	dir := placeOf(os.Getenv(commentVariable))
	if dir == "" {
		dir = filepath.Join(os.Getenv(dirVariable), ".esky", "slurm-"+j.id)
	}
	note := store.Note{Store: filepath.Dir(dir), Job: filepath.Base(dir), Near: local}
	number, err := note.Stage(context.Background())
	if errors.Is(err, store.ErrNoJob) {
		return nil // it has not run yet, or not under esky
	}
	if number != 0 && err == nil {
		fmt.Printf("image %d of %s is whole and lies in %s\n", number, note.Job, local)
	}
	return err
}

// placeOf finds the store in what the monitor writes beside the job in the queue:
// "esky: checkpoint 3 of 2026-01-02 03:04:05 in /store/job".
func placeOf(comment string) string {
	if !strings.HasPrefix(comment, "esky: checkpoint ") {
		return ""
	}
	_, path, ok := strings.Cut(comment, " in /")
	if !ok || strings.HasSuffix(path, "…") {
		return ""
	}
	return "/" + path
}
