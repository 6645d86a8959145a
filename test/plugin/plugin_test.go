// SPDX-License-Identifier: Apache-2.0

// Package plugin tests providers and schedulers as the programs that they are: our
// own served by esky-provider, ones that misbehave, and the examples. The plugins
// that misbehave are this test program under other names (bad_test.go).
package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) {
	if kind, ok := strings.CutPrefix(filepath.Base(os.Args[0]), plugin.ProviderPrefix); ok && len(os.Args) == 1 {
		misbehave(kind)
		return
	}
	if engine.WorkerMain(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == host.Verb {
		host.ProbeMain(os.Args[2:])
	}
	if os.Getenv(providerVar) != "" { // see inner
		os.Exit(m.Run())
	}
	harness.Main(m)
}

const providerVar = "ESKY_TEST_PROVIDER"

// TestConformance runs the suite for esky-provider as its host would see it.
func TestConformance(t *testing.T) {
	if path := os.Getenv(providerVar); path != "" {
		t.Run("schedulers", func(t *testing.T) { // each is tested beside internal/schedulers
			t.Parallel()
			plugintest.Scheduler(t, plugintest.SchedulerCase{
				Open: func(t *testing.T) plugin.Scheduler {
					p, err := plugin.Open(plugin.HostConfig{Found: plugin.Found{Path: path}, StartTime: harness.Patience, Log: func(line string) { t.Log(line) }})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(p.Close)
					return p.Scheduler()
				},
				Env:   [][]string{{"LSB_JOBID=9"}, {"LSB_JOBID=9", "LSB_RESTART=Y"}},
				Other: []string{"LSB_JOBID=10"},
			})
		})
		t.Run("native", func(t *testing.T) {
			t.Parallel()
			plugintest.Provider(t, plugintest.ProviderCase{Open: opener(path), Close: closer, Exact: true})
		})
		t.Run("application", func(t *testing.T) {
			t.Parallel()
			config := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(config, []byte("[ask]\nsignal = \"USR1\"\n[done]\nfile = \"state\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			plugintest.Provider(t, plugintest.ProviderCase{
				Open: opener(path, "application"), Close: closer, Exact: true,
				Program: []string{"/bin/sh", "-c", "STATE=./state" + savesItself[2]}, Options: map[string]string{"config": config},
			})
		})
		return
	}
	t.Parallel()
	inner(t)
}

// inner runs a test once more, all of it as an ordinary user, who is told where the
// provider is, and has copies of files in the working directory.
func inner(t *testing.T, files ...string) {
	t.Helper()
	provider := harness.Program(t, "esky-provider")
	dir := harness.Dir(t)
	self := filepath.Join(dir, "suite")
	harness.CopyProgram(t, os.Args[0], self)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := harness.Command(dir, self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(cmd.Env, providerVar+"="+provider)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "--- SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

func opener(path string, args ...string) func(t *testing.T) plugin.Provider {
	return func(t *testing.T) plugin.Provider {
		p, err := plugin.Open(plugin.HostConfig{
			Found: plugin.Found{Path: path}, Args: args, StartTime: harness.Patience, Log: func(line string) { t.Log(line) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return &openedProvider{Provider: p.Provider(), plugin: p}
	}
}

// openedProvider remembers its process.
type openedProvider struct {
	plugin.Provider
	plugin *plugin.Plugin
}

// closer ends a provider's process as a crash does.
func closer(_ *testing.T, p plugin.Provider) { p.(*openedProvider).plugin.Kill() }

// TestStartTime: a plugin costs a job's start less than 100 ms. The best of a few
// counts: this machine does other things too.
func TestStartTime(t *testing.T) {
	if os.Getenv(providerVar) != "" {
		t.Skip("part of the outer run")
	}
	path := harness.Program(t, "esky-provider")
	best := time.Hour
	for range 5 {
		start := time.Now()
		p, err := plugin.Open(plugin.HostConfig{Found: plugin.Found{Path: path}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Provider().Describe(t.Context()); err != nil {
			t.Error(err)
		}
		best = min(best, time.Since(start))
		p.Close()
	}
	t.Logf("%s from nothing to the first answer", best)
	if best > 100*time.Millisecond {
		t.Errorf("it takes %s to start a plugin", best)
	}
}

// TestHostGone: a plugin ends when its host is killed, and nothing of it is left.
func TestHostGone(t *testing.T) {
	if path := os.Getenv(providerVar); path != "" && os.Getenv("ESKY_TEST_HOST") != "" {
		p, err := plugin.Open(plugin.HostConfig{Found: plugin.Found{Path: path}})
		if err != nil {
			t.Fatal(err)
		}
		_ = os.WriteFile("pid", []byte(p.Name()), 0o600)
		time.Sleep(harness.Patience)
		return
	} else if path != "" {
		t.Skip("part of the outer run")
	}
	t.Parallel()
	provider := harness.Program(t, "esky-provider")
	dir := harness.Dir(t)
	self := filepath.Join(dir, "host")
	harness.CopyProgram(t, os.Args[0], self)
	cmd := harness.Command(dir, self, "-test.run=^TestHostGone$")
	cmd.Env = append(cmd.Env, providerVar+"="+provider, "ESKY_TEST_HOST=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the host has a plugin", func() bool { _, err := os.Stat(filepath.Join(dir, "pid")); return err == nil })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	await(t, "the plugin ends", func() bool { return len(harness.Of(dir)) == 0 })
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(harness.Patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}
