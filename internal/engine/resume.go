// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/restore"
	"github.com/esky-hpc/esky/internal/seed"
)

// restoreRequest is what the monitor asks of a restore worker.
type restoreRequest struct {
	Init  int
	Image string
	Files restore.FilePolicy
	Saved string
	IDs   *ids.Table
	Table string // file for the finished table
}

// Resume makes the job of an image run again. After an error nothing of it
// runs, and the image is as it was. A *image.DamagedError is a reason to try
// the generation before; a *MismatchError to try another host.
func Resume(ctx context.Context, o ResumeOptions, progress func(Progress)) (*Job, *ResumeReport, error) {
	began := time.Now()
	img, err := image.Open(o.Image)
	if err != nil {
		return nil, nil, err
	}
	defer img.Close()
	meta := img.Meta()
	if bad := host.Match(meta.Host); len(bad) > 0 {
		return nil, nil, &MismatchError{bad}
	}
	main := int(meta.MainPid)
	if meta.MainExited {
		main = 0 // its pid may be that of a ghost
	}
	resume := &namespace.Resume{
		Seed: seed.ELF(), MainPid: main, MainExit: mainExit(meta),
		Monotonic: time.Duration(meta.Clocks.MonotonicNs), Boottime: time.Duration(meta.Clocks.BoottimeNs),
	}
	if err := forgetMain(o.StatusPath, meta); err != nil {
		return nil, nil, err
	}
	i, err := launch(namespace.Config{StatusPath: o.StatusPath, Resume: resume}, o.Mode, o.Streams, o.Lock)
	if err != nil {
		return nil, nil, err
	}
	j := newJob(i, main, o.StatusPath)
	result, err := j.restore(ctx, o, progress)
	if err != nil {
		_ = j.Kill()
		_, _ = j.Wait()
		return nil, nil, err
	}
	j.known = result.Sleepers
	ids.Use(result.IDs)
	j.remember()
	for _, f := range meta.OpenFiles {
		if f.Termios != nil { // the terminal may have another size
			_ = j.Signal(unix.SIGWINCH)
			break
		}
	}
	return j, &ResumeReport{Took: time.Since(began), Bytes: result.Bytes, Notes: append(i.Notes, result.Notes...)}, nil
}

// restore has a worker make the processes.
func (j *Job) restore(ctx context.Context, o ResumeOptions, progress func(Progress)) (*restore.Result, error) {
	w, err := startWorker(restoreVerb, restoreRequest{
		Init: j.InitPid, Image: o.Image, Files: restore.FilePolicy(o.Files), Saved: o.SavedDir,
		IDs: ids.Current(), Table: IDsPath(o.StatusPath),
	})
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.cmd.Process.Kill() })
	defer stop()
	e, err := w.next(progress)
	endErr := w.end()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("resume %s: %w (%v)", o.Image, err, endErr)
	case e.Failure != nil:
		return nil, e.Failure.unpack(o.Image)
	}
	return e.Restored, nil
}

// restoreJob is the restore worker.
func restoreJob(c *channel) error {
	var req restoreRequest
	if err := c.requests.Decode(&req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	img, err := image.Open(req.Image)
	if err != nil {
		return err
	}
	defer img.Close()
	if req.Files == "" {
		req.Files = restore.Rollback
	}
	ids.Use(req.IDs)
	result, err := restore.Run(context.Background(), restore.Options{
		Init: req.Init, Image: img, Files: req.Files, SavedDir: req.Saved, Table: req.Table, Progress: c.progress,
	})
	if err != nil {
		return err
	}
	c.send(event{Restored: result})
	return nil
}
