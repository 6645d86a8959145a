// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

func TestEndPassesStatusThrough(t *testing.T) {
	for _, status := range []int{0, 1, 42, 75, 137, 255} {
		r := newRig(t)
		j := r.start()
		r.checkpoint()
		j.exit(status)
		r.want(status, "")
		if d := r.done(); d == nil || d.Status != status {
			t.Errorf("status %d: done record %+v", status, d)
		}
		if g := r.generations(); len(g) != 0 {
			t.Errorf("status %d: images %v are left", status, g)
		}
		if c := r.adapter.commands(); len(c) != 0 {
			t.Errorf("status %d: the scheduler was told %q", status, c)
		}
	}
}

func TestFinishedJobIsNotRunAgain(t *testing.T) {
	r := newRig(t)
	r.start().exit(3)
	r.want(3, "")
	status, err := Run(context.Background(), r.again().cfg)
	if status != 3 || err != nil || len(r.engine.jobs) != 0 {
		t.Errorf("second run: %d, %v, %d jobs started; want 3 at once", status, err, len(r.engine.jobs))
	}
	r.cfg.Fresh = true
	r.start().exit(4)
	r.want(4, "")
	if d := r.done(); d.Status != 4 {
		t.Errorf("--fresh: the record says %d, want 4", d.Status)
	}
}

func TestLeaveSignalSavesAndRequeues(t *testing.T) {
	r := newRig(t)
	j := r.start()
	r.signals <- unix.SIGTERM
	r.signals <- unix.SIGUSR1 // schedulers send several
	r.want(99, "")
	if c := r.adapter.commands(); !slices.Equal(c, []string{"requeue 7"}) {
		t.Errorf("the scheduler was told %q", c)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{1}) {
		t.Errorf("generations %v", g)
	}
	if r.done() != nil {
		t.Error("a job that has left is recorded as done")
	}
	if got := j.got(); len(got) != 0 {
		t.Errorf("the job was sent %v", got)
	}
	meta := metaOf(t, dirOf(r, 1))
	if meta.GetJob() != "fake-7" || !slices.Equal(meta.GetCommand(), []string{"prog", "arg"}) ||
		meta.GetCwd() != "/some/dir" || meta.GetGeneration() != 1 || meta.GetAttempt() != 0 {
		t.Errorf("metadata %v", meta)
	}
}

func TestRequeuedJobIsResumed(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")

	j := r.again().start()
	if !slices.Equal(r.engine.resumed, []string{"gen-000001"}) {
		t.Fatalf("resumed %v", r.engine.resumed)
	}
	if s := r.checkpoint(); s.Generation != 2 {
		t.Errorf("next generation is %d", s.Generation)
	}
	if a := metaOf(t, dirOf(r, 2)).GetAttempt(); a != 1 {
		t.Errorf("attempt %d, want 1", a)
	}
	j.exit(0)
	r.want(0, "")
}

func TestJobsOwnSignalsAreForwarded(t *testing.T) {
	r := newRig(t)
	j := r.start()
	for _, s := range []syscall.Signal{unix.SIGINT, unix.SIGUSR2, unix.SIGWINCH, 40, unix.SIGCONT, unix.SIGTSTP, unix.SIGCONT, unix.SIGCONT} {
		r.signals <- s
	}
	// The first CONT is noise of the scheduler; after a stop it is what it says.
	want := []syscall.Signal{unix.SIGINT, unix.SIGUSR2, unix.SIGWINCH, 40, unix.SIGTSTP, unix.SIGCONT}
	j.await(len(want))
	if got := j.got(); !slices.Equal(got, want) {
		t.Errorf("forwarded %v, want %v", got, want)
	}
	j.exit(0)
	r.want(0, "")
}

func TestStopOnATerminalStopsBoth(t *testing.T) {
	r := newRig(t)
	stops := 0
	r.cfg.terminal, r.cfg.stopSelf = func() bool { return true }, func() { stops++ }
	j := r.start()
	r.signals <- unix.SIGTSTP
	r.signals <- unix.SIGCONT
	j.await(3)
	if got := j.got(); !slices.Equal(got, []syscall.Signal{unix.SIGTSTP, unix.SIGSTOP, unix.SIGCONT}) {
		t.Errorf("the job was sent %v", got)
	}
	j.exit(0)
	r.want(0, "")
	if stops != 1 {
		t.Errorf("the monitor stopped %d times", stops)
	}
}

func TestOnSignalNoneForwardsAll(t *testing.T) {
	r := newRig(t)
	r.cfg.OnSignal = []syscall.Signal{}
	j := r.start()
	r.signals <- unix.SIGTERM
	j.await(1)
	j.exit(128 + int(unix.SIGTERM))
	r.want(143, "") // its own end: recorded
	if r.done() == nil {
		t.Error("not recorded as done")
	}
}

func TestKilledByTheLeaveSignalIsNoResult(t *testing.T) {
	for name, order := range map[string]func(*rig, *fakeJob){
		"our signal first": func(r *rig, j *fakeJob) {
			j.onCheckpoint = func(engine.CheckpointOptions) error {
				j.exit(143)
				return &engine.JobEndedError{}
			}
			r.signals <- unix.SIGTERM
		},
		"its end first": func(r *rig, j *fakeJob) {
			j.exit(143)
			time.Sleep(20 * time.Millisecond)
			r.signals <- unix.SIGTERM
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			j := r.start()
			r.checkpoint()
			order(r, j)
			r.want(99, "")
			if r.done() != nil {
				t.Error("recorded as done")
			}
			if g := r.generations(); !slices.Equal(g, []uint32{1}) {
				t.Errorf("generations %v, want the last one", g)
			}
			if c := r.adapter.commands(); !slices.Equal(c, []string{"requeue 7"}) {
				t.Errorf("the scheduler was told %q", c)
			}
		})
	}
}

func TestDeathByALeaveSignalThatWeDidNotGetIsAResult(t *testing.T) {
	r := newRig(t)
	r.start().exit(143)
	r.want(143, "")
	if d := r.done(); d == nil || d.Status != 143 {
		t.Errorf("done record %+v", d)
	}
}

func TestRefusedWhenLeavingRunsOn(t *testing.T) {
	r := newRig(t)
	j := r.start()
	r.checkpoint()
	j.onCheckpoint = func(engine.CheckpointOptions) error {
		return &engine.RefusedError{Reasons: []string{"pid 12: /dev/nvidia0: a device"}}
	}
	r.signals <- unix.SIGTERM
	if text := r.events.await("checkpoint_failed"); !strings.Contains(text, "/dev/nvidia0") || !strings.Contains(text, "runs on") {
		t.Errorf("message %q", text)
	}
	if got := j.got(); len(got) != 0 {
		t.Errorf("the job was sent %v", got)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{1}) {
		t.Errorf("generations %v, want the last one", g)
	}
	// It was asked, so a death by that very signal is none of its own.
	j.exit(143)
	r.want(99, "")
}

func TestFullDiskWhenLeavingRunsOn(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error { return store.WriteError("pages.img", unix.ENOSPC) }
	r.signals <- unix.SIGTERM
	if text := r.events.await("checkpoint_failed"); !strings.Contains(text, "no space left") {
		t.Errorf("message %q", text)
	}
	j.onCheckpoint = nil
	r.signals <- unix.SIGTERM // the scheduler insists, and there is room now
	r.want(99, "")
	if !slices.Equal(j.finished, []bool{true}) {
		t.Errorf("finished %v", j.finished)
	}
}

func TestFullDiskMakesRoom(t *testing.T) {
	r := newRig(t)
	j := r.start()
	r.checkpoint()
	r.checkpoint()
	full := true
	j.onCheckpoint = func(engine.CheckpointOptions) error {
		if full {
			full = false
			return store.WriteError("pages.img", unix.ENOSPC)
		}
		return nil
	}
	if s := r.checkpoint(); s.Generation != 3 {
		t.Errorf("generation %d", s.Generation)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{3, 2}) {
		t.Errorf("generations %v", g)
	}
	j.exit(0)
	r.want(0, "")
}

// A publication that fails must give the frozen job its life back.
func TestPublishFailsWhenLeaving(t *testing.T) {
	r := newRig(t)
	j := r.start()
	// A file that does not belong there makes the image unusable, which Publish
	// finds.
	j.spoil = func(dir string) error { return os.WriteFile(filepath.Join(dir, "stray"), []byte("x"), 0o600) }
	r.signals <- unix.SIGTERM
	r.events.await("checkpoint_failed")
	j.mu.Lock()
	finished := slices.Clone(j.finished)
	j.mu.Unlock()
	if !slices.Equal(finished, []bool{false}) {
		t.Errorf("finished %v, want the job to be let go on", finished)
	}
	if g := r.generations(); len(g) != 0 {
		t.Errorf("generations %v", g)
	}
	j.exit(0)
	r.want(0, "")
}

func TestMainGoneWhenLeaving(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.mu.Lock()
	j.main, j.mainStatus = 0, 5
	j.mu.Unlock()
	r.signals <- unix.SIGTERM
	r.want(5, "")
	if d := r.done(); d == nil || d.Status != 5 {
		t.Errorf("done record %+v", d)
	}
	if g := r.generations(); len(g) != 0 {
		t.Errorf("generations %v", g)
	}
}

func TestDamagedImageFallsBack(t *testing.T) {
	r := newRig(t)
	r.start()
	r.checkpoint()
	r.checkpoint()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	damage(t, dirOf(r, 3))

	j := r.again().start()
	if !slices.Equal(r.engine.resumed, []string{"gen-000002"}) {
		t.Errorf("resumed %v, want the one before", r.engine.resumed)
	}
	if text := r.events.await("damaged"); !strings.Contains(text, "image 2 is tried") {
		t.Errorf("message %q", text)
	}
	j.exit(0)
	r.want(0, "")
}

// A resume cuts standard error back where it is a file of the job, and would cut
// off what is said meanwhile.
func TestWhatIsSaidDuringAResumeIsSaidAfterIt(t *testing.T) {
	r := newRig(t)
	r.start()
	r.checkpoint()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	damage(t, dirOf(r, 2))
	r.engine.onResume = func(context.Context, engine.ResumeOptions) error {
		if said := r.events.find("damaged"); len(said) != 0 {
			t.Errorf("said too early: %q", said)
		}
		return nil
	}
	r.again().start().exit(0)
	r.want(0, "")
	r.events.await("damaged")
}

// Damage in the pages shows only while resuming.
func TestDamageFoundByTheEngineFallsBack(t *testing.T) {
	r := newRig(t)
	r.start()
	r.checkpoint()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.engine.onResume = func(_ context.Context, o engine.ResumeOptions) error {
		if filepath.Base(o.Image) == "gen-000002" {
			return &image.DamagedError{Dir: o.Image, What: "pages.img", Err: errFake}
		}
		return nil
	}
	r.again().start().exit(0)
	r.want(0, "")
	if !slices.Equal(r.engine.resumed, []string{"gen-000002", "gen-000001"}) {
		t.Errorf("resumed %v", r.engine.resumed)
	}
}

func TestAllImagesDamaged(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	damage(t, dirOf(r, 1))
	status, err := Run(context.Background(), r.again().cfg)
	if Code(err) != ExitDamaged {
		t.Errorf("status %d, %v; want %d", status, err, ExitDamaged)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{1}) {
		t.Errorf("generations %v: the image must stay", g)
	}
}

func TestMismatchIsRefused(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.engine.onResume = func(context.Context, engine.ResumeOptions) error { return &engine.MismatchError{} }
	for range mostIdleResumes + 2 { // refusals are no resumes: they do not count as idle
		_, err := Run(context.Background(), r.again().cfg)
		if !errors.As(err, new(*engine.MismatchError)) || Code(err) != ExitCannot {
			t.Fatalf("error %v", err)
		}
	}
	if g := r.generations(); !slices.Equal(g, []uint32{1}) {
		t.Errorf("generations %v", g)
	}
}

// A scheduler that holds jobs by their exit status must see it, not ours.
func TestHopelessJobIsHeldByStatus(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.engine.onResume = func(context.Context, engine.ResumeOptions) error { return &engine.MismatchError{} }
	r.adapter.hold = 100
	_, err := Run(context.Background(), r.again().cfg)
	if Code(err) != 100 || !errors.As(err, new(*engine.MismatchError)) || !strings.HasSuffix(err.Error(), "; held") {
		t.Errorf("status %d, error %v", Code(err), err)
	}
}

// A job that can go to another host does, with the status that its scheduler wants;
// if that cannot be said it is held.
func TestMismatchGoesElsewhere(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.engine.onResume = func(context.Context, engine.ResumeOptions) error { return &engine.MismatchError{} }
	again := r.again()
	again.cfg.Adapter = fakeMover{r.adapter}
	status, err := Run(context.Background(), again.cfg)
	if status != 98 || err != nil || !slices.Contains(r.adapter.commands(), "not here") || len(r.adapter.held) > 0 {
		t.Errorf("status %d, %v; the scheduler was told %q", status, err, r.adapter.commands())
	}
	again = r.again()
	again.cfg.Adapter = fakeMover{r.adapter}
	r.adapter.fail = errors.New("no answer")
	if _, err := Run(context.Background(), again.cfg); Code(err) != ExitCannot || len(r.adapter.held) != 1 {
		t.Errorf("%v; held %q", err, r.adapter.held)
	}
}

func TestRunningJobIsConfined(t *testing.T) {
	r := newRig(t)
	r.adapter.job.Confine = [][]string{{"only", "here"}}
	j := r.start()
	j.exit(0)
	r.want(0, "")
	if !slices.Contains(r.adapter.commands(), "only here") {
		t.Errorf("the scheduler was told %q", r.adapter.commands())
	}
}

func TestNoProgressIsHeld(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	for range mostIdleResumes {
		j := r.again().start()
		j.onCheckpoint = func(engine.CheckpointOptions) error { j.exit(143); return &engine.JobEndedError{} }
		r.signals <- unix.SIGTERM
		r.want(99, "")
	}
	_, err := Run(context.Background(), r.again().cfg)
	if err == nil || !strings.Contains(err.Error(), "is held") || Code(err) != sched.ExitCannot {
		t.Fatalf("error %v", err)
	}
	if len(r.adapter.held) != 1 || r.adapter.commands()[len(r.adapter.commands())-1] != "hold 7" {
		t.Errorf("held %q, commands %q", r.adapter.held, r.adapter.commands())
	}
}

func TestWorkIsProgress(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	for range mostIdleResumes + 2 {
		j := r.again().start()
		j.mu.Lock()
		j.cpu = time.Minute
		j.mu.Unlock()
		j.onCheckpoint = func(engine.CheckpointOptions) error { j.exit(143); return &engine.JobEndedError{} }
		r.signals <- unix.SIGTERM
		r.want(99, "")
	}
}

func TestTracerDeathResumesInPlace(t *testing.T) {
	for name, die := range map[string]func(*fakeJob){
		"its end is seen first": func(j *fakeJob) { j.exit(137); <-j.dead },
		"the failure is seen first": func(j *fakeJob) {
			time.AfterFunc(50*time.Millisecond, func() { j.exit(137) })
		},
	} {
		t.Run(name, func(t *testing.T) { tracerDeath(t, die) })
	}
}

func tracerDeath(t *testing.T, die func(*fakeJob)) {
	r := newRig(t)
	j := r.start()
	r.checkpoint()
	j.killed = true // it dies as the test says, not when asked to
	j.onCheckpoint = func(engine.CheckpointOptions) error {
		die(j)
		return &engine.TracerError{Err: errFake}
	}
	if _, err := r.call(Request{Op: "checkpoint"}); err == nil {
		t.Error("the command was told that all is well")
	}
	var second *fakeJob
	select {
	case second = <-r.engine.jobs:
	case <-time.After(5 * time.Second):
		t.Fatal("not resumed")
	}
	if !slices.Equal(r.engine.resumed, []string{"gen-000001"}) {
		t.Errorf("resumed %v", r.engine.resumed)
	}
	second.exit(0)
	r.want(0, "")
}

// A kill -9 that comes while a checkpoint fails for another reason is the end
// of the job, as at any other time.
func TestKillDuringRefusedCheckpointIsAResult(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error { j.exit(137); <-j.dead; return errFake }
	_, _ = r.call(Request{Op: "checkpoint"})
	r.want(137, "")
	if r.done() == nil {
		t.Error("not recorded as done")
	}
}

func TestTracerDeathWithoutImage(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error { j.exit(137); <-j.dead; return &engine.TracerError{Err: errFake} }
	r.signals <- unix.SIGTERM
	r.want(ExitInternal, "was lost")
	if r.done() != nil {
		t.Error("recorded as done")
	}
}

func TestTimeLimit(t *testing.T) {
	r := newRig(t)
	r.adapter.job.End = time.Now().Add(400 * time.Millisecond)
	r.cfg.Margin = Span{D: 300 * time.Millisecond}
	begin := time.Now()
	r.start()
	r.want(99, "")
	if took := time.Since(begin); took < 150*time.Millisecond || took > 390*time.Millisecond {
		t.Errorf("left after %v; half of the limit is 200ms", took)
	}
	if g := r.generations(); len(g) != 1 {
		t.Errorf("generations %v", g)
	}
}

func TestPeriodicCheckpoints(t *testing.T) {
	r := newRig(t)
	r.cfg.Every = Span{D: 20 * time.Millisecond}
	j := r.start()
	for len(r.events.find("checkpoint")) < 4 {
		time.Sleep(5 * time.Millisecond)
	}
	j.exit(0)
	r.want(0, "")
	if len(j.finished) != 0 {
		t.Errorf("finished %v: the job was not to be stopped", j.finished)
	}
}

// TestNotesOnce: what is true of each checkpoint is told with the first.
func TestNotesOnce(t *testing.T) {
	r := newRig(t)
	j := r.start()
	for _, j.notes = range [][]string{{"big is not in the image"}, {"big is not in the image", "other, too"}, {"other, too"}} {
		r.checkpoint()
	}
	told := r.events.find("note")
	if want := []string{"big is not in the image", "other, too"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	j.exit(0)
	r.want(0, "")
}

func TestKeep(t *testing.T) {
	r := newRig(t)
	r.cfg.Keep = 2
	j := r.start()
	for range 4 {
		r.checkpoint()
	}
	if g := r.generations(); !slices.Equal(g, []uint32{4, 3}) {
		t.Errorf("generations %v", g)
	}
	j.exit(0)
	r.want(0, "")
}

func TestJobAsksForCheckpoint(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.requests <- 1
	r.events.await("checkpoint")
	j.exit(0)
	r.want(0, "")
	if len(j.answers) != 1 || j.answers[0] != nil {
		t.Errorf("answers %v", j.answers)
	}
}

func TestLeaveDuringPeriodicCheckpoint(t *testing.T) {
	r := newRig(t)
	j := r.start()
	inside, goOn := make(chan struct{}, 8), make(chan struct{})
	j.before = func() { inside <- struct{}{}; <-goOn }
	answer := make(chan error, 1)
	go func() {
		_, err := r.call(Request{Op: "checkpoint"})
		answer <- err
	}()
	<-inside
	r.signals <- unix.SIGTERM
	close(goOn)
	r.want(99, "")
	if err := <-answer; err != nil {
		t.Errorf("the command was told %v", err)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{2, 1}) {
		t.Errorf("generations %v, want one of each", g)
	}
}

func TestEndDuringCheckpoint(t *testing.T) {
	r := newRig(t)
	j := r.start()
	inside, goOn := make(chan struct{}), make(chan struct{})
	j.before = func() { close(inside); <-goOn }
	go func() { _, _ = r.call(Request{Op: "checkpoint"}) }()
	<-inside
	j.exit(6)
	<-j.dead
	close(goOn)
	r.want(6, "")
	if g := r.generations(); len(g) != 0 {
		t.Errorf("generations %v of a finished job", g)
	}
}

func TestNewerIncarnationStopsThisOne(t *testing.T) {
	r := newRig(t)
	j := r.start()
	s := r.store()
	if _, err := s.Take(store.Holder{Host: "elsewhere"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.call(Request{Op: "checkpoint"}); err == nil {
		t.Error("the command was told that all is well")
	}
	r.want(ExitAgain, "newer incarnation")
	if !j.killed {
		t.Error("the job runs on beside the newer incarnation")
	}
}

func TestRequeueFails(t *testing.T) {
	r := newRig(t)
	r.adapter.fail = errFake
	r.cfg.patience.action = 50 * time.Millisecond
	r.adapter.leave.WaitForKill = true
	r.start()
	begin := time.Now()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	if text := r.events.await("requeue_failed"); !strings.Contains(text, "submit the job again") {
		t.Errorf("message %q", text)
	}
	if time.Since(begin) < r.cfg.patience.kill {
		t.Error("did not wait to be killed")
	}
}

func TestLeaveWhileResuming(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.again()
	r.engine.onResume = func(ctx context.Context, _ engine.ResumeOptions) error {
		r.signals <- unix.SIGTERM
		<-ctx.Done()
		return ctx.Err()
	}
	status, err := Run(context.Background(), r.cfg)
	if status != 99 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
	if c := r.adapter.commands(); len(c) != 2 {
		t.Errorf("commands %q, want a second requeue", c)
	}
	if g := r.generations(); !slices.Equal(g, []uint32{1}) {
		t.Errorf("generations %v", g)
	}
}

func TestInterruptWhileResuming(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.again()
	r.engine.onResume = func(ctx context.Context, _ engine.ResumeOptions) error {
		r.signals <- unix.SIGINT
		<-ctx.Done()
		return ctx.Err()
	}
	if status, err := Run(context.Background(), r.cfg); status != 130 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestResumeOnly(t *testing.T) {
	r := newRig(t)
	r.cfg.Command, r.cfg.Name = nil, "fake-7"
	_, err := Run(context.Background(), r.cfg)
	if Code(err) != ExitNotFound {
		t.Errorf("resume of nothing: %v", err)
	}
	r.cfg.Command = []string{"prog", "arg"}
	r.start()
	r.checkpoint()
	r.checkpoint()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.again().cfg.Command = nil
	r.cfg.Generation = 9
	if _, err := Run(context.Background(), r.cfg); Code(err) != ExitNotFound || !strings.Contains(err.Error(), "no image 9") {
		t.Errorf("resume of a generation that is not there: %v", err)
	}
	r.cfg.Generation = 2
	r.start().exit(0)
	r.want(0, "")
	if !slices.Equal(r.engine.resumed, []string{"gen-000002"}) {
		t.Errorf("resumed %v", r.engine.resumed)
	}
}

func TestStartFails(t *testing.T) {
	r := newRig(t)
	r.engine.onStart = func(engine.StartOptions) error {
		return &engine.ExecError{Path: "prog", Status: 127, Err: errFake}
	}
	_, err := Run(context.Background(), r.cfg)
	if Code(err) != 127 {
		t.Errorf("status %d, %v", Code(err), err)
	}
	if r.done() != nil {
		t.Error("recorded as done")
	}
}

func TestEnvironmentOfTheJob(t *testing.T) {
	r := newRig(t)
	r.cfg.Env = []string{"A=1", "LD_PRELOAD=/x/liba.so", "ESKY_JOB=outer"}
	var env []string
	r.engine.onStart = func(o engine.StartOptions) error { env = o.Env; return nil }
	r.start().exit(0)
	r.want(0, "")
	dir := r.cfg.Store
	want := []string{
		"A=1", "ESKY_ATTEMPT=0", "ESKY_JOB=fake-7", "ESKY_STORE=" + dir,
		"LD_PRELOAD=" + dir + "/.lib/libesky.so:/x/liba.so",
	}
	if !slices.Equal(env, want) {
		t.Errorf("environment\n%q, want\n%q", env, want)
	}
}

func TestStoreNotWritable(t *testing.T) {
	r := newRig(t)
	r.cfg.Store = "/proc/self/nothing"
	_, err := Run(context.Background(), r.cfg)
	if Code(err) != ExitNotWritable {
		t.Errorf("status %d, %v", Code(err), err)
	}
}
