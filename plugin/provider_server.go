// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/plugin/wire"
)

// providerServer gives calls that come over the wire to a Provider.
type providerServer struct {
	wire.UnimplementedProviderServer
	p Provider
}

func (s *providerServer) Describe(ctx context.Context, _ *wire.DescribeRequest) (*wire.Description, error) {
	d, err := s.p.Describe(ctx)
	return &wire.Description{Name: d.Name, Version: d.Version, Capabilities: d.Capabilities, State: d.State}, toWire(ctx, err)
}

func (s *providerServer) Probe(ctx context.Context, q *wire.ProbeRequest) (*wire.ProbeReport, error) {
	r, err := s.p.Probe(ctx, ProbeOptions{StateDir: string(q.StateDir)})
	a := &wire.ProbeReport{Usable: r.Usable}
	for _, f := range r.Findings {
		a.Findings = append(a.Findings, &wire.Finding{Fatal: f.Fatal, Text: f.Text, Remedy: f.Remedy})
	}
	return a, toWire(ctx, err)
}

func (s *providerServer) Start(ctx context.Context, q *wire.StartRequest) (*wire.Handle, error) {
	h, err := s.p.Start(ctx, StartOptions{
		Argv: toStrings(q.Argv), Env: toStrings(q.Env), Dir: string(q.Dir), Streams: fromStreams(q.Streams),
		StateDir: string(q.StateDir), Hold: Stream(q.Hold), Options: q.Options,
	})
	return toHandle(h), toWire(ctx, err)
}

func (s *providerServer) Checkpoint(q *wire.CheckpointRequest, stream wire.Provider_CheckpointServer) error {
	ctx := stream.Context()
	o := CheckpointOptions{
		Dir: string(q.Dir), Stop: q.Stop, Generation: q.Generation, Hold: time.Duration(q.HoldMs) * time.Millisecond, Options: q.Options,
	}
	send := sender{send: func(p *wire.Progress) error { return stream.Send(&wire.CheckpointAnswer{Progress: p}) }}
	image, err := s.p.Checkpoint(ctx, fromHandle(q.Job), o, send.progress)
	send.close()
	if err != nil {
		return toWire(ctx, err)
	}
	return stream.Send(&wire.CheckpointAnswer{Image: toImage(image)})
}

func (s *providerServer) Finish(ctx context.Context, q *wire.FinishRequest) (*wire.Nothing, error) {
	return &wire.Nothing{}, toWire(ctx, s.p.Finish(ctx, fromHandle(q.Job), q.End))
}

func (s *providerServer) Resume(q *wire.ResumeRequest, stream wire.Provider_ResumeServer) error {
	ctx := stream.Context()
	o := ResumeOptions{
		Dir: string(q.Dir), StateDir: string(q.StateDir), Streams: fromStreams(q.Streams), Hold: Stream(q.Hold),
		Files: q.Files, Options: q.Options, Env: toStrings(q.Env),
	}
	send := sender{send: func(p *wire.Progress) error { return stream.Send(&wire.ResumeAnswer{Progress: p}) }}
	r, err := s.p.Resume(ctx, o, send.progress)
	send.close()
	if err != nil {
		return toWire(ctx, err)
	}
	return stream.Send(&wire.ResumeAnswer{Resumed: &wire.Resumed{
		Job: toHandle(r.Job), Bytes: r.Bytes, TookNs: int64(r.Took), Notes: r.Notes,
	}})
}

// sender lets several goroutines tell progress, as a gRPC stream does not, and
// none after the last answer.
type sender struct {
	mu     sync.Mutex
	closed bool
	send   func(*wire.Progress) error
}

func (s *sender) progress(p Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		// A host that is gone ends the context, which is what counts.
		_ = s.send(&wire.Progress{Phase: p.Phase, Done: p.Done, Total: p.Total})
	}
}

func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *providerServer) Signal(ctx context.Context, q *wire.SignalRequest) (*wire.Nothing, error) {
	return &wire.Nothing{}, toWire(ctx, s.p.Signal(ctx, fromHandle(q.Job), syscall.Signal(q.Signal), q.All))
}

func (s *providerServer) Wait(ctx context.Context, q *wire.Handle) (*wire.Exit, error) {
	e, err := s.p.Wait(ctx, fromHandle(q))
	return &wire.Exit{Code: int32(e.Code), Signal: int32(e.Signal)}, toWire(ctx, err)
}

func (s *providerServer) Recover(ctx context.Context, q *wire.Handle) (*wire.Nothing, error) {
	return &wire.Nothing{}, toWire(ctx, s.p.Recover(ctx, fromHandle(q)))
}

// requester is the provider, if its jobs can ask for checkpoints.
func (s *providerServer) requester() (Requester, error) {
	if r, ok := s.p.(Requester); ok {
		return r, nil
	}
	return nil, Errorf(Unsupported, "", "its jobs cannot ask for checkpoints")
}

func (s *providerServer) Requests(q *wire.Handle, stream wire.Provider_RequestsServer) error {
	r, err := s.requester()
	if err == nil {
		err = r.Requests(stream.Context(), fromHandle(q), func() {
			_ = stream.Send(&wire.Nothing{}) // a host that is gone ends the context
		})
	}
	return toWire(stream.Context(), err)
}

func (s *providerServer) Answer(ctx context.Context, q *wire.AnswerRequest) (*wire.Nothing, error) {
	r, err := s.requester()
	if err == nil {
		err = r.Answer(ctx, fromHandle(q.Job), q.Published)
	}
	return &wire.Nothing{}, toWire(ctx, err)
}

func (s *providerServer) Images(ctx context.Context, q *wire.ImageRequest) (*wire.ImageList, error) {
	images, err := s.p.Images(ctx, string(q.Dir))
	list := &wire.ImageList{}
	for _, i := range images {
		list.Images = append(list.Images, toImage(i))
	}
	return list, toWire(ctx, err)
}

func (s *providerServer) DescribeImage(ctx context.Context, q *wire.ImageRequest) (*wire.Image, error) {
	i, err := s.p.DescribeImage(ctx, string(q.Dir))
	return toImage(i), toWire(ctx, err)
}

func (s *providerServer) VerifyImage(ctx context.Context, q *wire.ImageRequest) (*wire.Image, error) {
	i, err := s.p.VerifyImage(ctx, string(q.Dir))
	return toImage(i), toWire(ctx, err)
}

func (s *providerServer) RemoveImage(ctx context.Context, q *wire.ImageRequest) (*wire.Nothing, error) {
	return &wire.Nothing{}, toWire(ctx, s.p.RemoveImage(ctx, string(q.Dir)))
}
