// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlainKeyIsThatOfTheCommandLine(t *testing.T) {
	key := func(dir string, command ...string) string {
		j, err := Plain{}.Describe(context.Background(), Facts{Command: command, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return j.Key
	}
	same := key("/a", "./prog", "1", "2")
	if key("/a", "./prog", "1", "2") != same {
		t.Error("the same line in the same directory has another key")
	}
	for _, other := range []string{
		key("/b", "./prog", "1", "2"), key("/a", "./prog", "12"), key("/a", "./prog", "1 2"), key("/a", "./prog", "1", "2", ""),
	} {
		if other == same {
			t.Errorf("another command has the key %s too", same)
		}
	}
	for _, command := range []string{"./a b/ü x", "..", "", "/", strings.Repeat("x", 300)} {
		k := key("/a", command)
		if k[0] == '.' || len(k) > 60 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("command %q: bad key %q", command, k)
		}
	}
}

// script plays a batch script that runs the same command line again and again.
func script(j Job, state map[string]int, commands int) (keys []string) {
	for range commands {
		k := j.Pick(func(key string) (int, bool) { a, ok := state[key]; return a, ok })
		state[k] = j.Attempt
		keys = append(keys, k)
	}
	return keys
}

func TestPickGivesEachRunOfACommandItsKey(t *testing.T) {
	state := map[string]int{}
	first := script(Job{ID: "1", Key: "k"}, state, 3)
	if d := cmp.Diff([]string{"k", "k.2", "k.3"}, first); d != "" {
		t.Error(d)
	}
	again := script(Job{ID: "1", Key: "k", Attempt: 1}, state, 4)
	if d := cmp.Diff([]string{"k", "k.2", "k.3", "k.4"}, again); d != "" {
		t.Error("a requeued script meets other keys:", d)
	}
	if d := cmp.Diff([]string{"k", "k"}, script(Job{ID: "1", Key: "k", Sole: true}, map[string]int{}, 2)); d != "" {
		t.Error("sole:", d)
	}
	if d := cmp.Diff([]string{"k", "k"}, script(Job{Key: "k"}, map[string]int{}, 2)); d != "" {
		t.Error("no scheduler:", d)
	}
}

// A command of a scheduler must outlive the signals that it brings about.
func TestRunIsDeafToTheSchedulersSignals(t *testing.T) {
	out, err := Run(context.Background(), "sh", "-c", "kill -TERM $$; kill -USR1 $$; kill -INT $$; echo alive")
	if err != nil || out != "alive\n" {
		t.Errorf("output %q, error %v", out, err)
	}
}

func TestRunReportsWhatTheCommandSaid(t *testing.T) {
	_, err := Run(context.Background(), "sh", "-c", "echo Job is pending execution >&2; exit 1")
	if err == nil || !strings.Contains(err.Error(), "Job is pending execution") {
		t.Errorf("error %v", err)
	}
}

func TestRunEndsAHangingCommandWithItsChildren(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := Run(ctx, "sh", "-c", "sleep 60 & echo $! >"+mark+"; wait")
	if err == nil || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	text, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(text)) + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("its child is still there: %s", stat)
	}
}

func TestRunKeepsTheJobsLibraryOutOfTheClient(t *testing.T) {
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("SLURM_TIME_FORMAT", "%s")
	out, err := Run(context.Background(), "env")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "LD_PRELOAD") || !strings.Contains(out, "SLURM_TIME_FORMAT=standard\n") {
		t.Errorf("environment:\n%s", out)
	}
}

func TestPerform(t *testing.T) {
	var asked []string
	refuse := ""
	ask := func(_ context.Context, argv ...string) (string, error) {
		asked = append(asked, strings.Join(argv, " "))
		if argv[0] == refuse {
			return "", errors.New("b: it is so already")
		}
		return "", nil
	}
	a := Action{Commands: [][]string{{"a"}, {"b", "1"}, {"c"}}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	if err := Perform(ctx, ask, a); err != nil || strings.Join(asked, ",") != "a,b 1,c" {
		t.Errorf("asked %q, error %v", asked, err)
	}
	asked, refuse = nil, "b"
	if err := Perform(ctx, ask, a); err == nil || strings.Join(asked, ",") != "a,b 1" {
		t.Errorf("b fails: asked %q, error %v", asked, err)
	}
	a.Settled = []string{"is so already"}
	if err := Perform(ctx, ask, a); err != nil {
		t.Errorf("settled: %v", err)
	}
	if err := Perform(ctx, ask, Action{WaitForKill: true, Note: "no answer"}); err == nil || err.Error() != "no answer" {
		t.Errorf("undecided: %v", err)
	}
}

func TestPerformTriesAgain(t *testing.T) {
	tries := 0
	ask := func(context.Context, ...string) (string, error) {
		if tries++; tries == 1 {
			return "", errors.New("busy")
		}
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := Perform(ctx, ask, Action{Commands: [][]string{{"a"}}}); err != nil || tries != 2 {
		t.Errorf("%d tries, error %v", tries, err)
	}
}

func TestStreamOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	for _, c := range []struct {
		path  string
		flags int
		want  Stream
	}{
		{path, os.O_CREATE | os.O_WRONLY, Stream{Regular: true, Path: path}},
		{path, os.O_WRONLY | os.O_APPEND, Stream{Regular: true, Append: true, Path: path}},
		{"/dev/null", os.O_WRONLY, Stream{}},
	} {
		f, err := os.OpenFile(c.path, c.flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if got := streamOf(int(f.Fd())); got != c.want {
			t.Errorf("%s, %#x: %+v, want %+v", c.path, c.flags, got, c.want)
		}
		f.Close()
	}
	if got := streamOf(-1); got != (Stream{}) {
		t.Errorf("no descriptor: %+v", got)
	}
}

type fakeAdapter struct{ Plain }

func (fakeAdapter) Name() string        { return "fake" }
func (fakeAdapter) Detect(env Env) bool { return env("FAKE") != "" }

func TestFind(t *testing.T) {
	t.Cleanup(func() { registry.adapters = nil })
	Register(fakeAdapter{})
	if a, ok := Find(func(string) string { return "1" }); !ok || a.Name() != "fake" {
		t.Errorf("found %v, %v", a, ok)
	}
	if a, ok := Find(func(string) string { return "" }); ok || a.Name() != "none" {
		t.Errorf("without a scheduler: %v, %v", a, ok)
	}
}

func TestGather(t *testing.T) {
	f, err := Gather([]string{"x"})
	if err != nil || f.Pid != syscall.Getpid() || f.Dir == "" || f.Ask == nil || f.Env("PATH") == "" {
		t.Errorf("%+v, %v", f, err)
	}
}

// The commands of one incarnation of a job are to find the same number for it.
func TestGatherKnowsItsSession(t *testing.T) {
	a, err := Gather(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Gather(nil)
	if err != nil || a.Start == 0 || a.Start != b.Start {
		t.Errorf("sessions %d and %d, error %v", a.Start, b.Start, err)
	}
	if a.Began.After(a.Now) || a.Now.Sub(a.Began) > 10000*time.Hour {
		t.Errorf("the session began at %v", a.Began)
	}
}

func TestClock(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "1:30": 90 * time.Second, "01:30:00": 90 * time.Minute, "2-00:00:01": 48*time.Hour + time.Second, " 5\n": 5 * time.Second,
	} {
		if got, ok := Clock(text); !ok || got != want {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	for _, bad := range []string{"", "UNLIMITED", "1:2:3:4", "-5", "1:-2", "x-1", "1.5"} {
		if got, ok := Clock(bad); ok {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestSubmitAgain(t *testing.T) {
	f := Facts{Env: func(k string) string { return map[string]string{Resubmit: "qsub 'my job'"}[k] }}
	want := Action{Commands: [][]string{{"/bin/sh", "-c", "qsub 'my job'"}}, Exit: ExitAgain, Note: "submitted again by: qsub 'my job'"}
	if d := cmp.Diff(want, f.SubmitAgain("X")); d != "" {
		t.Error(d)
	}
	f.Env = func(string) string { return "" }
	if a := f.SubmitAgain("X"); a.Exit != ExitAgain || len(a.Commands) != 0 || !strings.Contains(a.Note, Resubmit) {
		t.Errorf("%+v", a)
	}
}
