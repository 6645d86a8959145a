// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
)

func TestMain(m *testing.M) {
	if KeeperMain(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "swrk" {
		standIn(os.Args[2])
		return
	}
	if os.Getenv(probeVariable) != "" {
		printProbe()
		return
	}
	os.Exit(m.Run())
}

// needs skips a test where criu does not work; test/lab/criu runs it where it does.
func needs(t *testing.T) *Provider {
	t.Helper()
	p := New("test")
	r, err := p.Probe(t.Context(), plugin.ProbeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Usable {
		t.Skip(r.Findings[0].Text)
	}
	return p
}

func TestConformance(t *testing.T) {
	needs(t)
	for name, open := range map[string]func(t *testing.T) plugin.Provider{
		"in process": func(*testing.T) plugin.Provider { return New("test") },
		"over gRPC":  func(t *testing.T) plugin.Provider { return plugintest.OverWire(t, New("test")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugintest.Provider(t, plugintest.ProviderCase{Open: open, Close: func(*testing.T, plugin.Provider) {}})
		})
	}
}

// rig is one job of a script.
type rig struct {
	*testing.T
	p   *Provider
	dir string
	h   plugin.Handle
}

func start(t *testing.T, script string, stdout plugin.Stream) *rig {
	t.Helper()
	r := &rig{T: t, p: needs(t), dir: t.TempDir()}
	for _, d := range []string{"state", "image"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.h, err = r.p.Start(t.Context(), plugin.StartOptions{
		Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: r.dir, StateDir: r.path("state"),
		Streams: plugin.Streams{Stdout: stdout, Stderr: plugin.Stream(r.path("stderr"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.p.Signal(context.Background(), r.h, syscall.SIGKILL, true) })
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) until(name string) {
	r.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(r.path(name)); err == nil {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("there never is %s", name)
		}
	}
}

func (r *rig) touch(name string) {
	r.Helper()
	if err := os.WriteFile(r.path(name), nil, 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) checkpoint(stop bool) error {
	_, err := r.p.Checkpoint(r.Context(), r.h, plugin.CheckpointOptions{Dir: r.path("image"), Stop: stop}, func(plugin.Progress) {})
	return err
}

func (r *rig) ends(want int) {
	r.Helper()
	if e, err := r.p.Wait(r.Context(), r.h); err != nil || e.Status() != want {
		r.Errorf("it ends with %d, %v; want %d", e.Status(), err, want)
	}
}

// TestStray: a process that criu would not see is refused by name, and the job goes on.
func TestStray(t *testing.T) {
	r := start(t, "(setsid sleep 100 & touch ready); until [ -e go ]; do sleep 0.01; done; exit 7", "")
	r.until("ready")
	err := r.checkpoint(true)
	if plugin.KindOf(err) != plugin.Refused || !strings.Contains(err.Error(), "(sleep) has left the job's tree") {
		t.Errorf("%v", err)
	}
	if _, err := r.p.DescribeImage(t.Context(), r.path("image")); plugin.KindOf(err) != plugin.NotFound {
		t.Errorf("there is an image: %v", err)
	}
	r.touch("go")
	for r.p.Signal(t.Context(), r.h, 0, false) == nil { // the main process is there
		time.Sleep(5 * time.Millisecond)
	}
	if err := r.p.Signal(t.Context(), r.h, syscall.SIGKILL, true); err != nil { // the stray, too
		t.Error(err)
	}
	r.ends(7)
}

// TestRefused: what criu cannot save is said in its words, and the job goes on.
func TestRefused(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "touch ready; until [ -e go ]; do sleep 0.01; done; exit 7", plugin.Descriptor(pair[0]))
	r.until("ready")
	if err := r.checkpoint(false); plugin.KindOf(err) != plugin.Refused || !strings.Contains(err.Error(), "criu: ") {
		t.Errorf("%v", err)
	}
	r.touch("go")
	r.ends(7)
}

// TestStreams: a resumed job writes to what its output is now.
func TestStreams(t *testing.T) {
	before, w1, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "echo before; touch ready; until [ -e go ]; do sleep 0.01; done; echo after; exit 7", plugin.Descriptor(int(w1.Fd())))
	w1.Close()
	r.until("ready")
	if err := r.checkpoint(true); err != nil {
		t.Fatal(err)
	}
	if err := r.p.Finish(t.Context(), r.h, true); err != nil {
		t.Fatal(err)
	}
	r.ends(128 + int(syscall.SIGKILL))
	after, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	resumed, err := r.p.Resume(t.Context(), plugin.ResumeOptions{
		Dir: r.path("image"), StateDir: r.path("state"), Streams: plugin.Streams{Stdout: plugin.Descriptor(int(w2.Fd()))},
	}, func(plugin.Progress) {})
	w2.Close()
	if err != nil {
		t.Fatal(err)
	}
	r.h = resumed.Job
	r.touch("go")
	r.ends(7)
	for f, want := range map[*os.File]string{before: "before\n", after: "after\n"} {
		b := make([]byte, 100)
		n, err := f.Read(b)
		if string(b[:n]) != want {
			t.Errorf("it wrote %q, %v; want %q", b[:n], err, want)
		}
	}
}
