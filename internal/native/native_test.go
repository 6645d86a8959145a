// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) {
	if engine.WorkerMain(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == host.Verb {
		host.ProbeMain(os.Args[2:])
	}
	os.Exit(harness.AsUser(m, nil))
}

// TestConformance: the same suite inside this process, and over gRPC. A new
// Provider knows as little of the jobs of another as a new process would.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(*testing.T) plugin.Provider{
		"in process": func(*testing.T) plugin.Provider { return New("test") },
		"over gRPC":  func(t *testing.T) plugin.Provider { return plugintest.OverWire(t, New("test")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugintest.Provider(t, plugintest.ProviderCase{Open: open, Close: func(*testing.T, plugin.Provider) {}, Exact: true})
		})
	}
}

// TestMainExited: how the main process ended is exact too when that was before the
// checkpoint, and others were left.
func TestMainExited(t *testing.T) {
	p, dir := New("test"), t.TempDir()
	state, img := filepath.Join(dir, "state"), filepath.Join(dir, "image")
	for _, d := range []string{state, img} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h, err := p.Start(t.Context(), plugin.StartOptions{
		Argv: []string{"/bin/sh", "-c", "(touch there; while [ ! -e go ]; do sleep 0.01; done) & while [ ! -e there ]; do sleep 0.01; done; kill $$"},
		Env:  []string{"PATH=/usr/bin:/bin"}, Dir: dir, StateDir: state,
	})
	if err != nil {
		t.Fatal(err)
	}
	mainStatus := filepath.Join(state, "status.main")
	for end := time.Now().Add(plugintest.Patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(mainStatus); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the main process does not end")
		}
	}
	if _, err := p.Checkpoint(t.Context(), h, plugin.CheckpointOptions{Dir: img, Stop: true}, func(plugin.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if err := p.Finish(t.Context(), h, true); err != nil {
		t.Fatal(err)
	}
	r, err := p.Resume(t.Context(), plugin.ResumeOptions{Dir: img, StateDir: state}, func(plugin.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := p.Wait(t.Context(), r.Job); err != nil || e != (plugin.Exit{Signal: syscall.SIGTERM}) {
		t.Errorf("%+v, %v", e, err)
	}
}
