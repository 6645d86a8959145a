// SPDX-License-Identifier: Apache-2.0

package plugintest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

// Patience is how long the suite waits for anything.
var Patience = 60 * time.Second

// ProviderCase says what is tested, and with which job.
type ProviderCase struct {
	// Open starts the provider, as a host would, or a new process of it after the
	// one before has ended. It cleans up by t.Cleanup.
	Open func(t *testing.T) plugin.Provider
	// Close ends what Open returned, but not its jobs. nil: a process cannot be
	// ended, and what needs it is left out.
	Close func(t *testing.T, p plugin.Provider)
	// Program is a job as Counter describes it; nil: Counter itself.
	Program []string
	// Options for Start, Checkpoint and Resume.
	Options map[string]string
	// Exact says that Wait can tell a death by a signal from an exit status above 128.
	Exact bool
	// MayFail leaves the suite out where Probe says that the host is not fit; it
	// fails otherwise.
	MayFail bool
}

// Counter is a job that keeps in its memory what its result depends on. It runs in
// a directory of its own, where it
//
//   - appends the number of its first step to the file begun whenever it starts, so
//     that a job which begins anew, not where its image was made, is found out;
//   - says in the file progress at which step it is; 40 of them count, and it takes
//     more until there is a file finish;
//   - writes one line to standard output in the end, and exits with status 3.
//
// A program for providers that cannot save any job has to do the same, with its own
// checkpoints; CounterResult is the line.
var Counter = []string{"/bin/sh", "-c", `
n=0 sum=0
echo 1 >> begun
while [ $n -lt 40 ] || [ ! -e finish ]; do
	n=$((n + 1))
	[ $n -gt 40 ] || sum=$(((sum * 31 + n) % 1000003))
	echo $n > progress.new && mv progress.new progress
	sleep 0.03
done
echo "sum $sum"
exit 3`}

// CounterResult is what the job writes in the end.
func CounterResult() string {
	sum := 0
	for n := 1; n <= 40; n++ {
		sum = (sum*31 + n) % 1000003
	}
	return fmt.Sprintf("sum %d\n", sum)
}

// counterStatus is the exit status of the job.
const counterStatus = 3

// Provider tests a provider: the answers, and what becomes of the jobs.
func Provider(t *testing.T, c ProviderCase) {
	if c.Program == nil {
		c.Program = Counter
	}
	if c.probe(t) {
		return
	}
	for name, test := range map[string]func(*testing.T, *fixture){
		"exit": testExit, "run on": testRunOn, "kill and resume": testKillResume, "stop and resume": testStopResume,
		"stop and go on": testStopGo, "images": testImages, "damage": testDamage, "cancel": testCancel,
		"recover": testRecover, "recover ended": testRecoverEnded, "hold": testHold,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newFixture(t, c))
		})
	}
}

// probe looks at what the provider says of itself and of this host.
func (c ProviderCase) probe(t *testing.T) (leaveOut bool) {
	p := c.Open(t)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	d, err := p.Describe(ctx)
	if err != nil || d.Name == "" || d.Version == "" || len(d.State) == 0 {
		t.Errorf("describe: %+v, %v", d, err)
	}
	r, err := p.Probe(ctx, plugin.ProbeOptions{StateDir: t.TempDir()})
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	for _, f := range r.Findings {
		if f.Text == "" || f.Fatal && f.Remedy == "" {
			t.Errorf("probe finds something and does not say what to do: %+v", f)
		}
	}
	if !r.Usable && c.MayFail {
		t.Logf("left out: %s cannot work here: %+v", d.Name, r.Findings)
		return true
	}
	if !r.Usable {
		t.Fatalf("%s cannot work here: %+v", d.Name, r.Findings)
	}
	return t.Failed()
}

// fixture is one provider with the directories of one job.
type fixture struct {
	*testing.T
	c      ProviderCase
	p      plugin.Provider
	ctx    context.Context
	dir    string // working directory
	state  string
	images string
	can    func(capability string) bool
}

func newFixture(t *testing.T, c ProviderCase) *fixture {
	dir := t.TempDir()
	f := &fixture{T: t, c: c, p: c.Open(t), dir: filepath.Join(dir, "work"), state: filepath.Join(dir, "state"), images: filepath.Join(dir, "images")}
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	t.Cleanup(cancel)
	f.ctx = ctx
	for _, d := range []string{f.dir, f.state, f.images} {
		f.must(os.Mkdir(d, 0o700))
	}
	d, err := f.p.Describe(ctx)
	f.must(err)
	f.can = func(capability string) bool { return slices.Contains(d.Capabilities, capability) }
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// want fails unless an error is of the kind.
func (f *fixture) want(kind plugin.Kind, what string, err error) {
	f.Helper()
	if err == nil || plugin.KindOf(err) != kind || err.Error() == "" {
		f.Errorf("%s: %v (%s), want an error of kind %s", what, err, plugin.KindOf(err), kind)
	}
}

func (f *fixture) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fixture) read(name string) string {
	b, _ := os.ReadFile(f.path(name))
	return string(b)
}

func (f *fixture) streams() plugin.Streams {
	return plugin.Streams{Stdout: plugin.Stream(f.path("stdout")), Stderr: plugin.Stream(f.path("stderr"))}
}

func (f *fixture) env() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + f.dir, "LANG=C"}
}

func (f *fixture) start(argv ...string) plugin.Handle {
	f.Helper()
	h, err := f.p.Start(f.ctx, plugin.StartOptions{
		Argv: argv, Env: f.env(), Dir: f.dir, Streams: f.streams(), StateDir: f.state, Options: f.c.Options,
	})
	f.must(err)
	f.endLater(h)
	return h
}

// endLater leaves nothing behind.
func (f *fixture) endLater(h plugin.Handle) {
	f.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_ = f.p.Signal(ctx, h, syscall.SIGKILL, true) // it has ended, most often
	})
}

// startCounter starts the job and waits until it has something to lose.
func (f *fixture) startCounter() plugin.Handle {
	f.Helper()
	h := f.start(f.c.Program...)
	f.reach(5)
	return h
}

// reach waits until the job is at a step.
func (f *fixture) reach(step int) {
	f.Helper()
	for end := time.Now().Add(Patience); f.step() < step; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.Fatalf("the job is at step %d, not at %d; stderr: %s", f.step(), step, f.read("stderr"))
		}
	}
}

func (f *fixture) step() (n int) {
	_, _ = fmt.Sscan(f.read("progress"), &n)
	return n
}

// checkpoint makes an image and moves it to its place, as a host does.
func (f *fixture) checkpoint(h plugin.Handle, name string, stop bool) string {
	f.Helper()
	pending := filepath.Join(f.images, ".pending")
	f.must(os.Mkdir(pending, 0o700))
	i, err := f.p.Checkpoint(f.ctx, h, plugin.CheckpointOptions{Dir: pending, Stop: stop, Generation: 1, Options: f.c.Options}, func(plugin.Progress) {})
	f.must(err)
	if i.Dir != pending || i.Bytes <= 0 {
		f.Errorf("the image: %+v", i)
	}
	dir := filepath.Join(f.images, name)
	f.must(os.Rename(pending, dir))
	return dir
}

func (f *fixture) resume(dir string) plugin.Handle {
	f.Helper()
	_ = os.Remove(f.path("progress")) // what it says from now on it says itself
	r, err := f.tryResume(dir)
	f.must(err)
	f.endLater(r.Job)
	return r.Job
}

func (f *fixture) tryResume(dir string) (plugin.Resumed, error) {
	return f.p.Resume(f.ctx, plugin.ResumeOptions{
		Dir: dir, StateDir: f.state, Streams: f.streams(), Files: "rollback", Options: f.c.Options, Env: f.env(),
	}, func(plugin.Progress) {})
}

func (f *fixture) wait(h plugin.Handle) int {
	f.Helper()
	e, err := f.p.Wait(f.ctx, h)
	f.must(err)
	return e.Status()
}

// ended checks how a job ended: exactly, or as a shell would show it.
func (f *fixture) ended(h plugin.Handle, want plugin.Exit) {
	f.Helper()
	e, err := f.p.Wait(f.ctx, h)
	f.must(err)
	if e != want && (f.c.Exact || e != plugin.Exit{Code: want.Status()}) {
		f.Errorf("it ended with %+v, want %+v", e, want)
	}
}

// finished waits for the end of the counter and checks that it computed what it
// had to, without having begun anew.
func (f *fixture) finished(h plugin.Handle) {
	f.Helper()
	f.must(os.WriteFile(f.path("finish"), nil, 0o600))
	if status := f.wait(h); status != counterStatus {
		f.Errorf("status %d, want %d; stderr: %s", status, counterStatus, f.read("stderr"))
	}
	if got := f.read("stdout"); got != CounterResult() {
		f.Errorf("it wrote %q, want %q", got, CounterResult())
	}
	begun := strings.Fields(f.read("begun"))
	for i, first := range begun {
		if (first == "1") != (i == 0) {
			f.Errorf("it has begun anew: %v", begun)
		}
	}
}

func (f *fixture) kill(h plugin.Handle) {
	f.Helper()
	f.must(f.p.Signal(f.ctx, h, syscall.SIGKILL, true))
	f.ended(h, plugin.Exit{Signal: syscall.SIGKILL})
}

// filesOf lists the files of an image, the largest first.
func filesOf(f *fixture, dir string) (paths []string) {
	size := map[string]int64{}
	f.must(filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			paths, size[path] = append(paths, path), fi.Size()
		}
		return err
	}))
	slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(size[b], size[a]) })
	return paths
}

var errStopped = errors.New("stopped by the test")
