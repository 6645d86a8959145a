// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
)

// echo remembers what it was asked and answers with what it was given.
type echo struct {
	asked  []any
	err    error
	handle plugin.Handle
	image  plugin.Image
	block  chan struct{} // closed when a Wait has seen its context end
}

func (e *echo) see(args ...any) { e.asked = append(e.asked, args...) }

func (e *echo) Describe(context.Context) (plugin.Description, error) {
	return plugin.Description{Name: "echo", Version: "1", Capabilities: []string{plugin.CanRunOn}, State: []string{"nothing"}}, e.err
}

func (e *echo) Probe(_ context.Context, o plugin.ProbeOptions) (plugin.ProbeReport, error) {
	e.see(o)
	return plugin.ProbeReport{Usable: true, Findings: []plugin.Finding{{Fatal: true, Text: "a", Remedy: "b"}}}, e.err
}

func (e *echo) Start(_ context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	e.see(o)
	return e.handle, e.err
}

func (e *echo) Checkpoint(_ context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	e.see(h, o)
	progress(plugin.Progress{Phase: "write", Done: 1, Total: 2})
	return e.image, e.err
}

func (e *echo) Finish(_ context.Context, h plugin.Handle, end bool) error {
	e.see(h, end)
	return e.err
}

func (e *echo) Resume(_ context.Context, o plugin.ResumeOptions, progress func(plugin.Progress)) (plugin.Resumed, error) {
	e.see(o)
	progress(plugin.Progress{Phase: "read", Done: 3, Total: 4})
	return plugin.Resumed{Job: e.handle, Bytes: 5, Took: time.Second, Notes: []string{"n"}}, e.err
}

func (e *echo) Signal(_ context.Context, h plugin.Handle, sig syscall.Signal, all bool) error {
	e.see(h, sig, all)
	return e.err
}

func (e *echo) Wait(ctx context.Context, h plugin.Handle) (plugin.Exit, error) {
	e.see(h)
	if e.block != nil {
		<-ctx.Done()
		close(e.block)
		return plugin.Exit{}, ctx.Err()
	}
	return plugin.Exit{Signal: syscall.SIGSEGV}, e.err
}

func (e *echo) Recover(_ context.Context, h plugin.Handle) error {
	e.see(h)
	return e.err
}

func (e *echo) Images(_ context.Context, dir string) ([]plugin.Image, error) {
	e.see(dir)
	return []plugin.Image{e.image}, e.err
}

func (e *echo) DescribeImage(_ context.Context, dir string) (plugin.Image, error) {
	e.see(dir)
	return e.image, e.err
}

func (e *echo) VerifyImage(_ context.Context, dir string) (plugin.Image, error) {
	e.see(dir)
	return e.image, e.err
}

func (e *echo) RemoveImage(_ context.Context, dir string) error {
	e.see(dir)
	return e.err
}

func (e *echo) Requests(_ context.Context, h plugin.Handle, request func()) error {
	e.see(h)
	request()
	request()
	return e.err
}

func (e *echo) Answer(_ context.Context, h plugin.Handle, published bool) error {
	e.see(h, published)
	return e.err
}

func newEcho() *echo {
	return &echo{
		handle: plugin.Handle{Provider: "echo", Version: 3, Pid: 4242, Data: []byte{0, 0xff}},
		image: plugin.Image{
			Dir: "/images/\xff", Created: time.Unix(1, 2), Bytes: 3, Pause: 4, Took: 5,
			Notes: []string{"note"}, Command: []string{"a", "\xfe"}, About: map[string]string{"k": "v"},
		},
	}
}

// calls makes every call with every field set, and returns the answers.
func calls(p plugin.Requester, e *echo) (answers []any, errs []error) {
	ctx := context.Background()
	see := func(a any, err error) { answers, errs = append(answers, a), append(errs, err) }
	step := func(s plugin.Progress) { answers = append(answers, s) }
	streams := plugin.Streams{Stdin: "", Stdout: "fd:3", Stderr: "/tmp/\xff"}
	options := map[string]string{"o": "p"}
	do := func(a any, err error) { see(a, err) }
	d, err := p.Describe(ctx)
	do(d, err)
	r, err := p.Probe(ctx, plugin.ProbeOptions{StateDir: "/s"})
	do(r, err)
	h, err := p.Start(ctx, plugin.StartOptions{
		Argv: []string{"prog", "\xff"}, Env: []string{"A=\xff"}, Dir: "/d", Streams: streams, StateDir: "/s", Hold: "fd:6", Options: options,
	})
	do(h, err)
	i, err := p.Checkpoint(ctx, e.handle, plugin.CheckpointOptions{Dir: e.image.Dir, Stop: true, Generation: 7, Hold: time.Second, Options: options}, step)
	do(i, err)
	do(nil, p.Finish(ctx, e.handle, true))
	m, err := p.Resume(ctx, plugin.ResumeOptions{Dir: "/i", StateDir: "/s", Streams: streams, Hold: "fd:6", Files: "strict", Options: options, Env: []string{"B=1"}}, step)
	do(m, err)
	do(nil, p.Signal(ctx, e.handle, syscall.SIGUSR1, true))
	x, err := p.Wait(ctx, e.handle)
	do(x, err)
	do(nil, p.Recover(ctx, e.handle))
	l, err := p.Images(ctx, "/dir")
	do(l, err)
	i, err = p.DescribeImage(ctx, e.image.Dir)
	do(i, err)
	i, err = p.VerifyImage(ctx, e.image.Dir)
	do(i, err)
	do(nil, p.RemoveImage(ctx, e.image.Dir))
	do(nil, p.Requests(ctx, e.handle, func() { step(plugin.Progress{Phase: "request"}) }))
	do(nil, p.Answer(ctx, e.handle, true))
	return answers, errs
}

func overWire(t *testing.T, e *echo) plugin.Requester {
	return plugintest.OverWire(t, e).(plugin.Requester)
}

// TestSameOverTheWire: nothing is lost or changed between a host and a provider.
func TestSameOverTheWire(t *testing.T) {
	here, there := newEcho(), newEcho()
	want, _ := calls(here, here)
	got, errs := calls(overWire(t, there), there)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("answers:", d)
	}
	if d := cmp.Diff(here.asked, there.asked); d != "" {
		t.Error("asked:", d)
	}
}

// TestErrorsOverTheWire: an error is the same at the other end, from every call.
func TestErrorsOverTheWire(t *testing.T) {
	kinds := []plugin.Kind{
		plugin.Usage, plugin.NotFound, plugin.Refused, plugin.Host, plugin.Changed, plugin.Busy, plugin.Damaged, plugin.Ended,
		plugin.Exec, plugin.Storage, plugin.Lost, plugin.Unsupported, plugin.Broken, plugin.Internal,
	}
	e := newEcho()
	p := overWire(t, e)
	for _, k := range kinds {
		want := &plugin.Error{Kind: k, Text: "pid 7: a thing of kind " + string(k), Hint: "do that – or this\n", Status: 126}
		e.err = want
		_, errs := calls(p, e)
		for i, err := range errs {
			var got *plugin.Error
			if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
				t.Errorf("call %d, %s: %#v, want %#v", i, k, err, want)
			}
		}
	}
	e.err = errors.New("of no kind")
	if _, errs := calls(p, e); plugin.KindOf(errs[2]) != plugin.Internal || errs[2].Error() != "of no kind" {
		t.Errorf("%#v", errs[2])
	}
}

// TestRequestsUnsupported: of a provider that is no Requester.
func TestRequestsUnsupported(t *testing.T) {
	p := plugintest.OverWire(t, struct{ plugin.Provider }{newEcho()}).(plugin.Requester)
	h := newEcho().handle
	for _, err := range []error{p.Requests(t.Context(), h, func() {}), p.Answer(t.Context(), h, true)} {
		if plugin.KindOf(err) != plugin.Unsupported {
			t.Errorf("%v", err)
		}
	}
}

// TestCancel: a context that ends here ends there.
func TestCancel(t *testing.T) {
	e := newEcho()
	e.block = make(chan struct{})
	p := plugintest.OverWire(t, e)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := p.Wait(ctx, e.handle); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-e.block:
	case <-time.After(10 * time.Second):
		t.Error("the provider has not heard of it")
	}
}
