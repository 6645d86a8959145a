// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/dump"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/jobfiles"
)

// dumpRequest is what the monitor asks of a dump worker.
type dumpRequest struct {
	Tree      freeze.Tree
	Main      int
	Exit      Exit // of the main process, if that has ended
	Dir       string
	Codec     image.Codec
	Stop      bool
	Cut       bool
	Meta      []byte
	HoldLimit time.Duration
	Known     []freeze.Sleeper
	IDs       *ids.Table

	// The worker has no environment: what dump.Options wants of it.
	Scratch, PrivateScratch []string
	FilesLimit              uint64
	getenv                  func(string) string // what Scratch is from; nil: our own
}

// defaultHold is how long critical sections and callbacks may keep a
// checkpoint waiting.
const defaultHold = 10 * time.Second

// Save writes an image of the running job. Without Stop the job goes on while
// its memory is written; with Stop it stands still until Finish. After an error
// it runs on, unless the error is a *TracerError.
func Save(ctx context.Context, o CheckpointOptions, progress func(Progress)) (*Checkpoint, error) {
	j := o.Job
	meta, err := proto.Marshal(o.Meta)
	if err != nil {
		return nil, fmt.Errorf("describe the job: %w", err)
	}
	if o.HoldLimit == 0 {
		o.HoldLimit = defaultHold
	}
	req := dumpRequest{
		Tree: freeze.Tree{Init: j.InitPid}, Main: j.main, Exit: j.mainExit(), Dir: o.Dir, Codec: o.Codec, Stop: o.Stop, Meta: meta, HoldLimit: o.HoldLimit, Known: j.known, IDs: ids.Current(), getenv: o.Getenv,
	}
	c, result, err := save(ctx, req, progress)
	if err != nil {
		return nil, err
	}
	j.noteDump(result)
	return c, nil
}

// save has a worker make the image that the request describes.
func save(ctx context.Context, req dumpRequest, progress func(Progress)) (*Checkpoint, *dump.Result, error) {
	began := time.Now()
	var err error
	if req.FilesLimit, err = filesLimit(); err != nil {
		return nil, nil, err
	}
	if req.getenv == nil {
		req.getenv = os.Getenv
	}
	req.Scratch, req.PrivateScratch = jobfiles.Scratch(req.getenv)
	w, err := startWorker(dumpVerb, req)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { w.control.Close() }) // the worker lets the job go and ends
	defer stop()
	e, err := w.next(progress)
	if err == nil && e.Failure != nil {
		err = e.Failure.unpack(req.Dir)
		_ = w.end()
	} else if err != nil {
		err = workerDied(w, req.Tree.Top(), err)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, err
	}
	c := &Checkpoint{
		Pause: e.Dumped.Pause, Bytes: e.Dumped.Bytes, Took: time.Since(began), Notes: e.Dumped.Notes, worker: w,
	}
	if !req.Stop {
		c.worker = nil
		_ = w.end()
	}
	return c, e.Dumped, nil
}

// workerDied tells whether the job died with it: only if it stood still. top is
// the process that stands for the job.
func workerDied(w *worker, top int, err error) error {
	if waitErr := w.end(); waitErr != nil {
		err = fmt.Errorf("%w (%w)", err, waitErr)
	}
	const settled = 500 // ms
	fd, openErr := unix.PidfdOpen(top, 0)
	if openErr != nil {
		return &TracerError{err}
	}
	defer unix.Close(fd)
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(p, settled); n > 0 {
		return &TracerError{err}
	}
	return err
}

func (j *Job) noteDump(r *dump.Result) {
	j.mu.Lock()
	j.known, j.waiting = r.Sleepers, r.Requests
	j.mu.Unlock()
	j.remember()
}

// Verdicts of Finish.
const (
	verdictEnd = "end"
	verdictGo  = "go"
)

// Finish ends the pause of a job that was checkpointed with Stop: with end the
// job is killed, else it runs on.
func (c *Checkpoint) Finish(end bool) error {
	if c.worker == nil {
		return nil
	}
	w := c.worker
	c.worker = nil
	verdict := verdictGo
	if end {
		verdict = verdictEnd
	}
	if err := w.requests.Encode(verdict); err != nil {
		_ = w.end()
		return fmt.Errorf("end the job's pause: %w", &TracerError{err})
	}
	return w.end()
}

// dumpJob is the dump worker.
func dumpJob(c *channel) error {
	var req dumpRequest
	if err := c.requests.Decode(&req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	meta := new(imagepb.Image)
	if err := proto.Unmarshal(req.Meta, meta); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	ids.Use(req.IDs)
	// The monitor's verdict, or the end of the monitor.
	ctx, cancel := context.WithCancel(context.Background())
	verdict := make(chan string, 1)
	go func() {
		var v string
		if c.requests.Decode(&v) != nil {
			cancel()
		}
		verdict <- v
	}()
	d, result, err := dump.Run(ctx, dump.Options{
		Scratch: req.Scratch, PrivateScratch: req.PrivateScratch, FilesLimit: req.FilesLimit,
		Tree: req.Tree, MainPid: req.Main, MainExit: req.Exit, Dir: req.Dir, Codec: req.Codec, Stop: req.Stop, Cut: req.Cut, Meta: meta,
		HoldLimit: req.HoldLimit, Known: req.Known, Progress: c.progress,
	})
	if err != nil {
		return err
	}
	c.send(event{Dumped: result})
	if !req.Stop {
		return nil
	}
	return d.Release(<-verdict == verdictEnd)
}

// filesLimit is what the environment says of the size of files in an image.
func filesLimit() (uint64, error) {
	text := os.Getenv("ESKY_FILES_LIMIT")
	if text == "" {
		return dump.DefaultFilesLimit, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("ESKY_FILES_LIMIT=%s is not a size such as 500MB: %w", text, err)
	}
	return n, nil
}
