// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

// rig runs a monitor with a real store and a job that is not one.
type rig struct {
	t       *testing.T
	cfg     Config
	engine  *fakeEngine
	adapter *fakeAdapter
	events  *recorder
	signals chan os.Signal
	through chan outcomeOfRun
}

type outcomeOfRun struct {
	status int
	err    error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	noLeaks(t)
	sockets, err := os.MkdirTemp("/tmp", "esky-test") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	t.Setenv("ESKY_RUNTIME_DIR", sockets)
	r := &rig{
		t: t, engine: &fakeEngine{jobs: make(chan *fakeJob, 16)}, events: &recorder{t: t},
		signals: make(chan os.Signal, 16), through: make(chan outcomeOfRun, 1),
		adapter: &fakeAdapter{job: sched.Job{
			Scheduler: "fake", Key: "fake-7", ID: "7", Sole: true,
			Leave: []syscall.Signal{unix.SIGTERM, unix.SIGUSR1}, Ignore: []syscall.Signal{unix.SIGCONT},
		}, leave: sched.Action{Commands: [][]string{{"requeue", "7"}}, Exit: 99}},
	}
	r.cfg = Config{
		Store: filepath.Join(t.TempDir(), "store"), Command: []string{"prog", "arg"}, Env: []string{"A=1"},
		Keep: 2, Files: "rollback", Margin: Span{Auto: true}, Version: "test",
		Engine: r.engine, Adapter: r.adapter, Signals: r.signals, Reporter: r.events,
		Facts: sched.Facts{Dir: "/some/dir", Ask: r.adapter.ask},
		patience: patience{
			lock: 50 * time.Millisecond, lockStep: 5 * time.Millisecond, signal: 100 * time.Millisecond,
			action: time.Second, kill: 50 * time.Millisecond, gone: 2 * time.Second, cpuNote: 10 * time.Millisecond,
		},
		terminal: func() bool { return false },
		stopSelf: func() {},
		library:  func(dir string) (string, error) { return dir + "/libesky.so", nil },
	}
	return r
}

// run runs a monitor in the background.
func (r *rig) run() {
	go func() {
		status, err := Run(context.Background(), r.cfg)
		r.through <- outcomeOfRun{status, err}
	}()
}

// start runs a monitor and returns once the job runs.
func (r *rig) start() *fakeJob {
	r.t.Helper()
	r.run()
	select {
	case j := <-r.engine.jobs:
		// Answered by the state machine, so it is there now.
		if _, err := r.call(Request{Op: "status"}); err != nil {
			r.t.Fatal(err)
		}
		return j
	case o := <-r.through:
		r.t.Fatalf("ended with %d, %v before a job ran", o.status, o.err)
	case <-time.After(5 * time.Second):
		r.t.Fatal("no job")
	}
	return nil
}

// wait returns how Run ended.
func (r *rig) wait() (int, error) {
	r.t.Helper()
	select {
	case o := <-r.through:
		return o.status, o.err
	case <-time.After(5 * time.Second):
		buf := make([]byte, 1<<16)
		r.t.Fatalf("the monitor does not end:\n%s", buf[:runtime.Stack(buf, true)])
	}
	return 0, nil
}

// want waits for the end and compares the status; text must be in the error, or
// there must be none.
func (r *rig) want(status int, text string) {
	r.t.Helper()
	got, err := r.wait()
	switch {
	case err == nil && text != "":
		r.t.Fatalf("status %d and no error, want one with %q", got, text)
	case err != nil && (text == "" || !strings.Contains(err.Error(), text)):
		r.t.Fatalf("error %q, want one with %q", err, text)
	case err != nil:
		got = Code(err)
	}
	if got != status {
		r.t.Errorf("status %d (%v), want %d", got, err, status)
	}
}

// again makes the rig ready for the next incarnation.
func (r *rig) again() *rig {
	r.signals = make(chan os.Signal, 16)
	r.cfg.Signals = r.signals
	return r
}

func (r *rig) store() *store.Store {
	r.t.Helper()
	s, err := store.Existing(r.cfg.Store, "fake-7")
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) generations() []uint32 {
	r.t.Helper()
	all, err := r.store().Generations()
	if err != nil {
		r.t.Fatal(err)
	}
	numbers := []uint32{}
	for _, g := range all {
		numbers = append(numbers, g.Number)
	}
	return numbers
}

func (r *rig) done() *store.DoneRecord {
	r.t.Helper()
	d, err := r.store().Done()
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// call asks the running monitor for something over its socket.
func (r *rig) call(req Request) (Reply, error) {
	r.t.Helper()
	place, err := meet(r.cfg.Store, "fake-7")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return Call(ctx, place.socket, req, nil)
}

func (r *rig) checkpoint() *Saved {
	r.t.Helper()
	reply, err := r.call(Request{Op: "checkpoint"})
	if err != nil {
		r.t.Fatal(err)
	}
	return reply.Saved
}

// fakeEngine starts fakeJobs. What each field does when it is not nil is up to
// the test.
type fakeEngine struct {
	jobs     chan *fakeJob
	onStart  func(engine.StartOptions) error
	onResume func(context.Context, engine.ResumeOptions) error
	resumed  []string
	attached []int
}

func (e *fakeEngine) newJob() *fakeJob {
	j := &fakeJob{
		end: make(chan ending, 4), requests: make(chan uint32), dead: make(chan struct{}),
		cpu: 10 * time.Millisecond, memory: 1 << 20, main: 4711,
	}
	e.jobs <- j
	return j
}

func (e *fakeEngine) Start(o engine.StartOptions) (Job, error) {
	if e.onStart != nil {
		if err := e.onStart(o); err != nil {
			return nil, err
		}
	}
	return e.newJob(), nil
}

func (e *fakeEngine) Resume(ctx context.Context, o engine.ResumeOptions, _ func(engine.Progress)) (Job, *engine.ResumeReport, error) {
	e.resumed = append(e.resumed, filepath.Base(o.Image))
	if e.onResume != nil {
		if err := e.onResume(ctx, o); err != nil {
			return nil, nil, err
		}
	}
	return e.newJob(), &engine.ResumeReport{Took: time.Millisecond, Bytes: 4096}, nil
}

func (e *fakeEngine) Attach(init int, _ string) (Job, error) {
	e.attached = append(e.attached, init)
	return e.newJob(), nil
}

// fakeJob ends when the test says so, or when it is killed.
type fakeJob struct {
	end      chan ending
	requests chan uint32
	dead     chan struct{}

	mu       sync.Mutex
	main     int
	cpu      time.Duration
	memory   int64
	signals  []syscall.Signal
	answers  []error
	finished []bool
	killed   bool

	notes        []string                             // that come with each checkpoint
	onCheckpoint func(engine.CheckpointOptions) error // instead of a good image
	before       func()                               // called when a checkpoint begins
	spoil        func(dir string) error               // called when the image is complete
	mainStatus   int                                  // what Wait says after Kill
}

func (j *fakeJob) InitPid() int { return os.Getpid() }
func (j *fakeJob) MainPid() int { j.mu.Lock(); defer j.mu.Unlock(); return j.main }

func (j *fakeJob) Wait() (int, error) {
	e := <-j.end
	close(j.dead)
	return e.status, e.err
}

func (j *fakeJob) Signal(s syscall.Signal) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.signals = append(j.signals, s)
	return nil
}

func (j *fakeJob) Kill() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	status := 128 + int(unix.SIGKILL)
	if j.main == 0 {
		status = j.mainStatus
	}
	if !j.killed {
		j.killed = true
		j.end <- ending{status, nil}
	}
	return nil
}

func (j *fakeJob) exit(status int)         { j.end <- ending{status, nil} }
func (j *fakeJob) CPU() time.Duration      { j.mu.Lock(); defer j.mu.Unlock(); return j.cpu }
func (j *fakeJob) MemoryBytes() int64      { j.mu.Lock(); defer j.mu.Unlock(); return j.memory }
func (j *fakeJob) Requests() <-chan uint32 { return j.requests }

func (j *fakeJob) Answer(_ uint32, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.answers = append(j.answers, err)
}

func (j *fakeJob) got() []syscall.Signal {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]syscall.Signal{}, j.signals...)
}

// await waits until the job was sent n signals, or a second.
func (j *fakeJob) await(n int) {
	for range 200 {
		if len(j.got()) >= n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (j *fakeJob) Checkpoint(_ context.Context, o engine.CheckpointOptions, _ func(engine.Progress)) (*Snapshot, error) {
	if j.before != nil {
		j.before()
	}
	if j.onCheckpoint != nil {
		if err := j.onCheckpoint(o); err != nil {
			return nil, err
		}
	}
	w, err := image.Create(o.Dir, o.Codec)
	if err != nil {
		return nil, err
	}
	if err := w.Finish(o.Meta); err != nil {
		return nil, err
	}
	if j.spoil != nil {
		if err := j.spoil(o.Dir); err != nil {
			return nil, err
		}
	}
	return &Snapshot{
		Pause: time.Millisecond, Took: 2 * time.Millisecond, Bytes: 4096, Notes: j.notes,
		Finish: func(end bool) error {
			j.mu.Lock()
			j.finished = append(j.finished, end)
			j.mu.Unlock()
			if end {
				return j.Kill()
			}
			return nil
		},
	}, nil
}

// fakeAdapter records what is asked of it and of its scheduler.
type fakeAdapter struct {
	job   sched.Job
	leave sched.Action
	fail  error // of every command
	hold  int   // the exit status that holds a job

	mu    sync.Mutex
	asked []string
	held  []string
}

func (a *fakeAdapter) Name() string        { return "fake" }
func (*fakeAdapter) Detect(sched.Env) bool { return true }
func (a *fakeAdapter) Describe(context.Context, sched.Facts) (sched.Job, error) {
	return a.job, nil
}
func (a *fakeAdapter) Leave(context.Context, sched.Facts, sched.Job) sched.Action { return a.leave }
func (a *fakeAdapter) Status(sched.Job, string) sched.Action                      { return sched.Action{} }

func (a *fakeAdapter) Hold(_ sched.Job, reason string) sched.Action {
	a.held = append(a.held, reason)
	return sched.Action{Commands: [][]string{{"hold", "7"}}, Exit: max(a.hold, sched.ExitCannot), Note: reason + "; held"}
}

// fakeMover is one that can send a job to another host.
type fakeMover struct{ *fakeAdapter }

func (fakeMover) Elsewhere(context.Context, sched.Facts, sched.Job, string) (sched.Action, bool) {
	return sched.Action{Commands: [][]string{{"not", "here"}}, Exit: 98, Note: "elsewhere"}, true
}

func (a *fakeAdapter) ask(_ context.Context, argv ...string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, strings.Join(argv, " "))
	return "", a.fail
}

func (a *fakeAdapter) commands() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.asked...)
}

// recorder keeps the events.
type recorder struct {
	t   *testing.T
	mu  sync.Mutex
	all []Event
}

func (r *recorder) Report(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
	if e.Text == "" || strings.HasSuffix(e.Text, ".") || e.Text != strings.TrimSpace(e.Text) {
		r.t.Errorf("event %s: %q is not one sentence without a full stop", e.Event, e.Text)
	}
}

func (r *recorder) Progress(string) (func(engine.Progress), func()) {
	return func(engine.Progress) {}, func() {}
}

// find returns the texts of the events of a kind.
func (r *recorder) find(kind string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var texts []string
	for _, e := range r.all {
		if e.Event == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

func (r *recorder) await(kind string) string {
	r.t.Helper()
	for range 500 {
		if texts := r.find(kind); len(texts) > 0 {
			return texts[len(texts)-1]
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("no event %s; there were %+v", kind, r.all)
	return ""
}

// noLeaks fails a test that leaves one of our goroutines behind.
func noLeaks(t *testing.T) {
	t.Cleanup(func() {
		var left string
		for range 200 {
			if left = ourGoroutines(); left == "" {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("goroutines left behind:\n%s", left)
	})
}

func ourGoroutines() string {
	buf := make([]byte, 1<<20)
	var left []string
	for i, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if i > 0 && strings.Contains(g, "esky/internal/monitor") && !strings.Contains(g, "testing.tRunner") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

var errFake = errors.New("fake failure")

// damage flips a byte of an image's metadata.
func damage(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "meta.pb")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func dirOf(r *rig, n uint32) string {
	return filepath.Join(r.store().Dir(), fmt.Sprintf("gen-%06d", n))
}

func metaOf(t *testing.T, dir string) *imagepb.Image {
	t.Helper()
	i, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	return i.Meta()
}
