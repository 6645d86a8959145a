// SPDX-License-Identifier: Apache-2.0

package plugintest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

// testExit: what becomes of a program is told exactly, also to who asks late or
// several times.
func testExit(t *testing.T, f *fixture) {
	h := f.start("/bin/sh", "-c", "echo out; echo err >&2; pwd > where; cat; exit 42")
	for range 2 {
		if s := f.wait(h); s != 42 {
			t.Errorf("exit 42 is told as %d", s)
		}
	}
	if f.read("stdout") != "out\n" || f.read("stderr") != "err\n" || f.read("where") != f.dir+"\n" {
		t.Errorf("stdout %q, stderr %q, directory %q", f.read("stdout"), f.read("stderr"), f.read("where"))
	}
	f.want(plugin.Ended, "a signal for a job that has ended", f.p.Signal(f.ctx, h, syscall.SIGUSR1, false))

	f.ended(f.start("/bin/sh", "-c", "kill -SEGV $$; sleep 100"), plugin.Exit{Signal: syscall.SIGSEGV})
	f.ended(f.start("/bin/sh", "-c", "exit 139"), plugin.Exit{Code: 139})
	h = f.start("/bin/sh", "-c", "trap 'exit 5' USR1; touch ready; while :; do sleep 0.01; done")
	for end := time.Now().Add(Patience); f.missing("ready") && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	f.must(f.p.Signal(f.ctx, h, syscall.SIGUSR1, false))
	if s := f.wait(h); s != 5 {
		t.Errorf("a signal that means exit 5 ended it with %d", s)
	}

	f.must(os.WriteFile(f.path("here"), []byte("#!/bin/sh\nexit 6\n"), 0o700))
	f.ended(f.start("./here"), plugin.Exit{Code: 6}) // in its own directory, whatever that of the provider is

	_, err := f.p.Start(f.ctx, plugin.StartOptions{Argv: []string{"/no/such/program"}, Env: f.env(), Dir: f.dir, StateDir: f.state, Options: f.c.Options})
	var e *plugin.Error
	if !errors.As(err, &e) || e.Kind != plugin.Exec || e.Status != 127 {
		t.Errorf("a program that is not there: %#v", err)
	}
	_, err = f.p.Wait(f.ctx, plugin.Handle{Provider: h.Provider, Version: h.Version, Pid: 1 << 22})
	if k := plugin.KindOf(err); k != plugin.NotFound && k != plugin.Usage {
		t.Errorf("a job that is not known: %v (%s)", err, k)
	}
}

func (f *fixture) missing(name string) bool {
	_, err := os.Stat(f.path(name))
	return err != nil
}

// testRunOn: a checkpoint does not show in what the job does.
func testRunOn(t *testing.T, f *fixture) {
	if !f.can(plugin.CanRunOn) {
		t.Skip("its jobs end with a checkpoint")
	}
	h := f.startCounter()
	f.checkpoint(h, "1", false)
	f.reach(f.step() + 2)
	f.checkpoint(h, "2", false)
	f.finished(h)
}

// testKillResume: a job that was killed goes on from its image.
func testKillResume(t *testing.T, f *fixture) {
	if !f.can(plugin.CanRunOn) {
		t.Skip("its jobs end with a checkpoint")
	}
	h := f.startCounter()
	dir := f.checkpoint(h, "1", false)
	f.reach(f.step() + 5)
	f.kill(h)
	f.finished(f.resume(dir))
}

// testStopResume: a job that was stopped goes on from its image, twice from the
// same, and can be saved again.
func testStopResume(t *testing.T, f *fixture) {
	h := f.startCounter()
	dir := f.checkpoint(h, "1", true)
	f.finish(h, true)
	stood := f.step()
	h = f.resume(dir)
	f.reach(stood + 3)
	f.kill(h)
	h = f.resume(dir)
	f.reach(stood + 3)
	dir = f.checkpoint(h, "2", true)
	f.finish(h, true)
	f.finished(f.resume(dir))
}

// finish ends a standstill. A job that could not stand still may have ended.
func (f *fixture) finish(h plugin.Handle, end bool) {
	f.Helper()
	err := f.p.Finish(f.ctx, h, end)
	if plugin.KindOf(err) == plugin.Ended && !f.can(plugin.CanStandStill) {
		err = nil
	}
	f.must(err)
	if end {
		f.wait(h)
	}
}

// testStopGo: a job that stands still really does, and can be let go.
func testStopGo(t *testing.T, f *fixture) {
	if !f.can(plugin.CanStandStill) {
		t.Skip("its jobs cannot stand still")
	}
	h := f.startCounter()
	f.want(plugin.Usage, "finish without a checkpoint", f.p.Finish(f.ctx, h, false))
	f.checkpoint(h, "1", true)
	stood := f.step()
	time.Sleep(300 * time.Millisecond)
	if now := f.step(); now != stood {
		t.Errorf("it stands still at step %d, and then is at %d", stood, now)
	}
	f.finish(h, false)
	f.reach(stood + 2)
	f.must(f.p.Signal(f.ctx, h, syscall.SIGKILL, true))
}

// testImages: images are told from what is none, described, and removed.
func testImages(t *testing.T, f *fixture) {
	h := f.startCounter()
	empty := filepath.Join(f.images, "empty")
	f.must(os.Mkdir(empty, 0o700))
	dir := f.checkpoint(h, "1", true)
	f.finish(h, true)
	i, err := f.p.DescribeImage(f.ctx, dir)
	f.must(err)
	if i.Dir != dir || i.Bytes <= 0 || time.Since(i.Created).Abs() > 2*Patience {
		t.Errorf("described as %+v", i)
	}
	_, err = f.p.VerifyImage(f.ctx, dir)
	f.must(err)
	all, err := f.p.Images(f.ctx, f.images)
	f.must(err)
	if len(all) != 1 || all[0].Dir != dir {
		t.Errorf("listed are %+v", all)
	}
	_, err = f.p.DescribeImage(f.ctx, empty)
	f.want(plugin.NotFound, "describe an empty directory", err)
	_, err = f.tryResume(empty)
	if err == nil {
		t.Error("an empty directory was resumed")
	}
	f.want(plugin.NotFound, "remove what is no image", f.p.RemoveImage(f.ctx, empty))
	f.must(f.p.RemoveImage(f.ctx, dir))
	if _, err := os.Stat(dir); err == nil {
		t.Error("a removed image is still there")
	}
}

// testDamage: an image that is damaged is not resumed. Of a provider that says that
// it verifies its images itself no byte of any file may be another; of others the
// host makes sure, and only what there is most of is looked at.
func testDamage(t *testing.T, f *fixture) {
	h := f.startCounter()
	dir := f.checkpoint(h, "1", true)
	f.finish(h, true)
	stood := f.step()
	files := filesOf(f, dir)
	if !f.can(plugin.CanVerify) {
		files = files[:1]
	}
	for _, path := range files {
		name := strings.TrimPrefix(path, dir+"/")
		good, err := os.ReadFile(path)
		f.must(err)
		bad := append(bytes.Clone(good), 'x')
		if len(good) > 0 {
			bad = bytes.Clone(good)
			bad[len(bad)/2] ^= 0xff
		}
		f.must(os.WriteFile(path, bad, 0o600))
		_, err = f.p.VerifyImage(f.ctx, dir)
		f.want(plugin.Damaged, "verify an image whose "+name+" is damaged", err)
		_, err = f.tryResume(dir)
		f.want(plugin.Damaged, "resume an image whose "+name+" is damaged", err)
		f.must(os.WriteFile(path, good, 0o600))
	}
	time.Sleep(200 * time.Millisecond)
	if f.step() != stood {
		t.Error("it runs")
	}
	_, err := f.p.VerifyImage(f.ctx, dir)
	f.must(err)
}

// testCancel: a checkpoint that is called off does no harm, and the next one works.
func testCancel(t *testing.T, f *fixture) {
	if !f.can(plugin.CanRunOn) {
		t.Skip("its jobs end with a checkpoint")
	}
	h := f.startCounter()
	for i := range 3 {
		ctx, cancel := context.WithCancelCause(f.ctx)
		dir := filepath.Join(f.images, "off"+strconv.Itoa(i))
		f.must(os.Mkdir(dir, 0o700))
		time.AfterFunc(time.Duration(i)*5*time.Millisecond, func() { cancel(errStopped) })
		_, err := f.p.Checkpoint(ctx, h, plugin.CheckpointOptions{Dir: dir, Options: f.c.Options}, func(plugin.Progress) {})
		cancel(nil)
		// It was faster than we, or is still at giving up the one before.
		if err == nil || plugin.KindOf(err) == plugin.Busy {
			continue
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errStopped) {
			t.Errorf("called off: %v", err)
		}
	}
	for end := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		dir := filepath.Join(f.images, "last")
		f.must(os.Mkdir(dir, 0o700))
		_, err := f.p.Checkpoint(f.ctx, h, plugin.CheckpointOptions{Dir: dir, Options: f.c.Options}, func(plugin.Progress) {})
		if plugin.KindOf(err) == plugin.Busy && time.Now().Before(end) { // the one that was called off is still at it
			f.must(os.RemoveAll(dir))
			continue
		}
		f.must(err)
		break
	}
	f.finished(h)
}

// testRecover: a job outlives the process of its provider, and the next one can do
// everything with it.
func testRecover(t *testing.T, f *fixture) {
	if f.c.Close == nil {
		t.Skip("the provider's process cannot be ended here")
	}
	h := f.startCounter()
	f.c.Close(t, f.p)
	at := f.step()
	f.reach(at + 2)
	f.p = f.c.Open(t)
	f.must(f.p.Recover(f.ctx, h))
	dir := f.checkpoint(h, "1", true)
	f.finish(h, true)
	h = f.resume(dir)
	f.c.Close(t, f.p)
	f.p = f.c.Open(t)
	f.must(f.p.Recover(f.ctx, h))
	f.finished(h)
}

// testRecoverEnded: how a job ended is known to the next process too.
func testRecoverEnded(t *testing.T, f *fixture) {
	if f.c.Close == nil {
		t.Skip("the provider's process cannot be ended here")
	}
	for last, want := range map[string]plugin.Exit{"exit 143": {Code: 143}, "kill $$": {Signal: syscall.SIGTERM}} {
		_ = os.Remove(f.path("go"))
		h := f.start("/bin/sh", "-c", "while [ ! -e go ]; do sleep 0.01; done; "+last)
		f.c.Close(t, f.p)
		f.must(os.WriteFile(f.path("go"), nil, 0o600))
		for end := time.Now().Add(Patience); runs(h.Pid) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
		f.p = f.c.Open(t)
		f.must(f.p.Recover(f.ctx, h))
		f.ended(h, want)
	}
}

// runs tells whether a process has not ended. It may be a zombie for ever where
// nobody reaps, as in a container.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// testHold: what is to be held is open as long as the job lives, and no longer.
func testHold(t *testing.T, f *fixture) {
	lock := filepath.Join(f.state, "held")
	f.must(os.WriteFile(lock, nil, 0o600))
	h, err := f.p.Start(f.ctx, plugin.StartOptions{
		Argv: []string{"/bin/sh", "-c", "while [ ! -e go ]; do sleep 0.01; done"}, Env: f.env(), Dir: f.dir, Streams: f.streams(),
		StateDir: f.state, Hold: plugin.Stream(lock), Options: f.c.Options,
	})
	f.must(err)
	f.endLater(h)
	if !isOpen(lock) {
		t.Error("it is not held")
	}
	f.must(os.WriteFile(f.path("go"), nil, 0o600))
	f.wait(h)
	for end := time.Now().Add(Patience); isOpen(lock); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is held for ever")
		}
	}
}

// isOpen tells whether any process has a file open.
func isOpen(path string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == path {
			return true
		}
	}
	return false
}
