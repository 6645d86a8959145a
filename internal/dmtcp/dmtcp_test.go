// SPDX-License-Identifier: Apache-2.0

package dmtcp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
)

func TestMain(m *testing.M) {
	if KeeperMain(os.Args) {
		return
	}
	os.Exit(run(m))
}

// run puts the stand-ins on the search path: copies, beside which they keep what they
// have of jobs.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "esky-stand-ins-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		panic(err)
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return m.Run()
}

// counter is plugintest.Counter for the stand-ins: it writes down and reads again what
// it has in memory.
const counter = `
n=0 sum=0
if [ -e "$STAND_IN/state" ]; then . "$STAND_IN/state"; fi
echo $((n + 1)) >> begun
trap 'echo "n=$n sum=$sum" > "$STAND_IN/new" && mv "$STAND_IN/new" "$STAND_IN/state"' USR1
while [ $n -lt 40 ] || [ ! -e finish ]; do
	s=$sum
	[ $n -ge 40 ] || s=$(((sum * 31 + n + 1) % 1000003))
	n=$((n + 1)) sum=$s
	echo $n > progress.new && mv progress.new progress
	sleep 0.03
done
echo "sum $sum"
exit 3`

// TestConformance runs the suite with programs that are called as those of DMTCP are,
// and which save nothing but what the job writes down.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) plugin.Provider{
		"in process": func(*testing.T) plugin.Provider { return New("test") },
		"over gRPC":  func(t *testing.T) plugin.Provider { return plugintest.OverWire(t, New("test")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugintest.Provider(t, plugintest.ProviderCase{
				Open: open, Close: func(*testing.T, plugin.Provider) {}, Program: []string{"/bin/sh", "-c", counter},
			})
		})
	}
}

func probe(t *testing.T, words ...string) {
	t.Helper()
	r, err := New("test").Probe(t.Context(), plugin.ProbeOptions{})
	if err != nil || r.Usable || len(r.Findings) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, w := range words {
		if f := r.Findings[0]; !strings.Contains(f.Text+"; "+f.Remedy, w) {
			t.Errorf("%+v does not say %q", f, w)
		}
	}
}

// with puts other programs in the place of the stand-ins.
func with(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

// TestMissing: which programs are missing.
func TestMissing(t *testing.T) {
	with(t, map[string]string{"dmtcp_command": ""})
	probe(t, "dmtcp_launch, dmtcp_restart cannot be found", "install DMTCP")
}

// TestBroken: DMTCP that does not work here is found out by using it, and says why in
// its own words.
func TestBroken(t *testing.T) {
	with(t, map[string]string{
		"dmtcp_launch": "echo '[40000] ERROR at processinfo.cpp:1: vdso not found' >&2; exit 99", "dmtcp_command": "exit 2", "dmtcp_restart": "exit 99",
	})
	probe(t, "DMTCP cannot save even a small process here: [40000] ERROR at processinfo.cpp:1: vdso not found", "provider native")
}

// TestRefused: a checkpoint that DMTCP does not make is said, and the job runs on.
func TestRefused(t *testing.T) {
	p := New("test")
	dir := t.TempDir()
	for _, d := range []string{"state", "image"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h, err := p.Start(t.Context(), plugin.StartOptions{
		Argv: []string{"/bin/sh", "-c", `touch "$STAND_IN/static" ready; until [ -e go ]; do sleep 0.01; done; exit 7`},
		Env:  []string{"PATH=/usr/bin:/bin"}, Dir: dir, StateDir: filepath.Join(dir, "state"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			break
		}
	}
	_, err = p.Checkpoint(t.Context(), h, plugin.CheckpointOptions{Dir: filepath.Join(dir, "image"), Stop: true}, func(plugin.Progress) {})
	if plugin.KindOf(err) != plugin.Refused || !strings.Contains(err.Error(), "dmtcp_command ends with status 2") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := p.Wait(t.Context(), h); err != nil || e.Status() != 7 {
		t.Errorf("it ends with %d, %v; want 7", e.Status(), err)
	}
}
