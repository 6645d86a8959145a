// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

// Running is a monitor of this user's on this host that answers.
type Running struct {
	State
	Socket string `json:"socket"`
}

// introduction is how long a monitor may take to say who it is. One that is
// stopped or hangs is not waited for longer than that.
const introduction = 3 * time.Second

// Of finds the monitors on this host that run in a job of a scheduler. There is
// no telling from its socket which job a monitor has, so all are asked at once.
func Of(ctx context.Context, jobID string) ([]Running, error) {
	dir, err := runtimeDir()
	if err != nil {
		return nil, err
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, introduction)
	defer cancel()
	answers := make([]*State, len(sockets))
	var wg sync.WaitGroup
	for i, socket := range sockets {
		wg.Go(func() {
			if r, err := Call(ctx, socket, Request{Op: "status"}, nil); err == nil {
				answers[i] = r.State // a dead monitor's socket is nobody's
			}
		})
	}
	wg.Wait()
	var found []Running
	for i, s := range answers {
		if s != nil && s.JobID != "" && s.JobID == jobID {
			found = append(found, Running{*s, sockets[i]})
		}
	}
	if found == nil {
		return nil, Fail(ExitNotFound, "", "no job of esky runs here in job %q: %w", jobID, fs.ErrNotExist)
	}
	return found, nil
}

// Checkpointed is a job that was saved with others.
type Checkpointed struct {
	State
	Saved *Saved `json:"saved"`
}

// CheckpointOf asks each of them for a checkpoint, all at once, and returns those
// that were saved, with the errors of the others.
func CheckpointOf(ctx context.Context, all []Running, req Request) ([]Checkpointed, error) {
	saved, errs := make([]*Saved, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, one := range all {
		wg.Go(func() {
			reply, err := Call(ctx, one.Socket, req, nil)
			saved[i], errs[i] = reply.Saved, err
		})
	}
	wg.Wait()
	good := []Checkpointed{}
	for i, s := range saved {
		switch {
		case errs[i] != nil:
			errs[i] = fmt.Errorf("%s: %w", all[i].State.Job, errs[i])
		case s != nil:
			good = append(good, Checkpointed{all[i].State, s})
		}
	}
	return good, errors.Join(errs...)
}
