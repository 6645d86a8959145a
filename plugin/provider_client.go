// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/esky-hpc/esky/plugin/wire"
)

// patience is how long a client waits for a plugin that says nothing.
type patience struct {
	answer  time.Duration // of a call that should be quick
	silence time.Duration // between two words of progress
}

var defaultPatience = patience{answer: time.Minute, silence: 5 * time.Minute}

// peer is a plugin at the other end of a connection. What comes from there is looked
// at before it is believed.
type peer struct {
	name     string // for people
	patience patience
	process  *process // nil: not known
}

// providerClient is a Provider at the other end.
type providerClient struct {
	peer
	w wire.ProviderClient
}

// call makes one call and turns its error back into ours.
func call[Q, A any](ctx context.Context, p peer, f func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	var trailer metadata.MD
	a, err := f(ctx, q, grpc.Trailer(&trailer))
	return a, p.failed(ctx, err, trailer)
}

// soon makes a call that must not take long.
func soon[Q, A any](ctx context.Context, p peer, f func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.patience.answer, p.hangs(p.patience.answer))
	defer cancel()
	return call(ctx, p, f, q)
}

// failed is the error of a call. One that gRPC itself has made says that the
// plugin is gone, which its process can tell better.
func (p peer) failed(ctx context.Context, err error, trailer metadata.MD) error {
	err = fromWire(ctx, err, trailer)
	var e *Error
	if !errors.As(err, &e) || e.Kind != Broken || first(trailer, kindKey) != "" || ctx.Err() != nil {
		return err
	}
	if p.process != nil {
		if how, ended := p.process.lastWords(); ended {
			return Errorf(Broken, "", "%s has ended%s", p.name, how)
		}
	}
	return Errorf(Broken, "", "%s cannot be reached: %s", p.name, e.Text)
}

func (p peer) hangs(d time.Duration) error {
	return Errorf(Broken, "", "%s has not answered for %s", p.name, d)
}

func (p peer) nonsense(format string, args ...any) error {
	return Errorf(Broken, "tell the author of the plugin", "%s answers nonsense: "+format, append([]any{p.name}, args...)...)
}

func (c *providerClient) Describe(ctx context.Context) (Description, error) {
	a, err := soon(ctx, c.peer, c.w.Describe, &wire.DescribeRequest{Host: "esky"})
	if err != nil {
		return Description{}, err
	}
	if !validName(a.Name) {
		return Description{}, c.nonsense("%.40q cannot be the name of a provider", a.Name)
	}
	return Description{Name: a.Name, Version: a.Version, Capabilities: a.Capabilities, State: a.State}, nil
}

func (c *providerClient) Probe(ctx context.Context, o ProbeOptions) (ProbeReport, error) {
	a, err := soon(ctx, c.peer, c.w.Probe, &wire.ProbeRequest{StateDir: []byte(o.StateDir)})
	if err != nil {
		return ProbeReport{}, err
	}
	r := ProbeReport{Usable: a.Usable}
	for _, f := range a.Findings {
		r.Findings = append(r.Findings, Finding{Fatal: f.Fatal, Text: f.Text, Remedy: f.Remedy})
	}
	return r, nil
}

func (c *providerClient) Start(ctx context.Context, o StartOptions) (Handle, error) {
	a, err := soon(ctx, c.peer, c.w.Start, &wire.StartRequest{
		Argv: toBytes(o.Argv), Env: toBytes(o.Env), Dir: []byte(o.Dir), Streams: toStreams(o.Streams),
		StateDir: []byte(o.StateDir), Hold: string(o.Hold), Options: o.Options,
	})
	if err != nil {
		return Handle{}, err
	}
	return c.checkHandle(a)
}

func (c *providerClient) checkHandle(w *wire.Handle) (Handle, error) {
	h := fromHandle(w)
	if h.Pid <= 1 || h.Pid > 1<<30 {
		return Handle{}, c.nonsense("process %d cannot be that of a job", w.GetPid())
	}
	return h, nil
}

func (c *providerClient) Checkpoint(ctx context.Context, job Handle, o CheckpointOptions, progress func(Progress)) (Image, error) {
	ctx, w := c.watch(ctx)
	defer w.stop()
	stream, err := c.w.Checkpoint(ctx, &wire.CheckpointRequest{
		Job: toHandle(job), Dir: []byte(o.Dir), Stop: o.Stop, Generation: o.Generation,
		HoldMs: o.Hold.Milliseconds(), Options: o.Options,
	})
	if err != nil {
		return Image{}, c.failed(ctx, err, nil)
	}
	a, err := last(ctx, c.peer, w, stream, progress, (*wire.CheckpointAnswer).GetProgress)
	if err != nil {
		return Image{}, err
	}
	if a == nil || a.Image == nil {
		return Image{}, c.nonsense("a checkpoint without an image")
	}
	return c.checkImage(a.Image, o.Dir)
}

func (c *providerClient) checkImage(w *wire.Image, dir string) (Image, error) {
	i := fromImage(w)
	switch {
	case i.Dir == "":
		i.Dir = dir
	case i.Dir != dir:
		return Image{}, c.nonsense("an image in %q, asked for was %q", i.Dir, dir)
	}
	if i.Bytes < 0 || i.Pause < 0 || i.Took < 0 {
		return Image{}, c.nonsense("an image of %d bytes, made in %s with a pause of %s", i.Bytes, i.Took, i.Pause)
	}
	return i, nil
}

func (c *providerClient) Finish(ctx context.Context, job Handle, end bool) error {
	_, err := soon(ctx, c.peer, c.w.Finish, &wire.FinishRequest{Job: toHandle(job), End: end})
	return err
}

func (c *providerClient) Resume(ctx context.Context, o ResumeOptions, progress func(Progress)) (Resumed, error) {
	ctx, w := c.watch(ctx)
	defer w.stop()
	stream, err := c.w.Resume(ctx, &wire.ResumeRequest{
		Dir: []byte(o.Dir), StateDir: []byte(o.StateDir), Streams: toStreams(o.Streams), Hold: string(o.Hold),
		Files: o.Files, Options: o.Options, Env: toBytes(o.Env),
	})
	if err != nil {
		return Resumed{}, c.failed(ctx, err, nil)
	}
	a, err := last(ctx, c.peer, w, stream, progress, (*wire.ResumeAnswer).GetProgress)
	if err != nil {
		return Resumed{}, err
	}
	if a == nil || a.Resumed == nil {
		return Resumed{}, c.nonsense("a resume without a job")
	}
	h, err := c.checkHandle(a.Resumed.Job)
	return Resumed{Job: h, Bytes: a.Resumed.Bytes, Took: time.Duration(a.Resumed.TookNs), Notes: a.Resumed.Notes}, err
}

func (c *providerClient) Signal(ctx context.Context, job Handle, sig syscall.Signal, all bool) error {
	_, err := soon(ctx, c.peer, c.w.Signal, &wire.SignalRequest{Job: toHandle(job), Signal: int32(sig), All: all})
	return err
}

func (c *providerClient) Wait(ctx context.Context, job Handle) (Exit, error) {
	a, err := call(ctx, c.peer, c.w.Wait, toHandle(job))
	if err != nil {
		return Exit{}, err
	}
	if a.Code < 0 || a.Code > 255 || a.Signal < 0 || a.Signal > 64 || a.Code != 0 && a.Signal != 0 {
		return Exit{}, c.nonsense("exit status %d by signal %d", a.Code, a.Signal)
	}
	return Exit{Code: int(a.Code), Signal: syscall.Signal(a.Signal)}, nil
}

func (c *providerClient) Recover(ctx context.Context, job Handle) error {
	_, err := soon(ctx, c.peer, c.w.Recover, toHandle(job))
	return err
}

func (c *providerClient) Requests(ctx context.Context, job Handle, request func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.w.Requests(ctx, toHandle(job))
	if err != nil {
		return c.failed(ctx, err, nil)
	}
	for {
		switch _, err := stream.Recv(); {
		case err == io.EOF:
			return nil
		case err != nil:
			return c.failed(ctx, err, stream.Trailer())
		}
		request()
	}
}

func (c *providerClient) Answer(ctx context.Context, job Handle, published bool) error {
	_, err := soon(ctx, c.peer, c.w.Answer, &wire.AnswerRequest{Job: toHandle(job), Published: published})
	return err
}

func (c *providerClient) Images(ctx context.Context, dir string) ([]Image, error) {
	a, err := soon(ctx, c.peer, c.w.Images, &wire.ImageRequest{Dir: []byte(dir)})
	if err != nil {
		return nil, err
	}
	var images []Image
	for _, w := range a.Images {
		images = append(images, fromImage(w))
	}
	return images, nil
}

func (c *providerClient) DescribeImage(ctx context.Context, dir string) (Image, error) {
	a, err := soon(ctx, c.peer, c.w.DescribeImage, &wire.ImageRequest{Dir: []byte(dir)})
	if err != nil {
		return Image{}, err
	}
	return c.checkImage(a, dir)
}

func (c *providerClient) VerifyImage(ctx context.Context, dir string) (Image, error) {
	a, err := call(ctx, c.peer, c.w.VerifyImage, &wire.ImageRequest{Dir: []byte(dir)})
	if err != nil {
		return Image{}, err
	}
	return c.checkImage(a, dir)
}

func (c *providerClient) RemoveImage(ctx context.Context, dir string) error {
	_, err := call(ctx, c.peer, c.w.RemoveImage, &wire.ImageRequest{Dir: []byte(dir)})
	return err
}

// watchdog ends a context when a plugin has said nothing for too long.
type watchdog struct {
	timer  *time.Timer
	limit  time.Duration
	cancel context.CancelCauseFunc
}

func (c *providerClient) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{limit: c.patience.silence, cancel: cancel}
	w.timer = time.AfterFunc(w.limit, func() { cancel(c.hangs(w.limit)) })
	return ctx, w
}

func (w *watchdog) heard() { w.timer.Reset(w.limit) }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// last reads a stream of answers and returns the first that is not progress, nil
// if there is none.
func last[A any](ctx context.Context, p peer, w *watchdog, stream grpc.ServerStreamingClient[A], progress func(Progress), step func(*A) *wire.Progress) (*A, error) {
	for {
		a, err := stream.Recv()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, p.failed(ctx, err, stream.Trailer())
		}
		w.heard()
		now := step(a)
		if now == nil {
			return a, nil
		}
		if progress != nil {
			progress(Progress{Phase: short(now.Phase), Done: now.Done, Total: now.Total})
		}
	}
}
