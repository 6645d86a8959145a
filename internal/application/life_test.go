// SPDX-License-Identifier: Apache-2.0

package application

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

// rig is one job of a script.
type rig struct {
	*testing.T
	p   *Provider
	dir string
	h   plugin.Handle
}

func start(t *testing.T, config, script string) *rig {
	t.Helper()
	t.Parallel()
	r := &rig{T: t, p: New("test"), dir: t.TempDir()}
	write(t, r.path("config.toml"), config)
	for _, d := range []string{"state", "image"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.h, err = r.p.Start(t.Context(), plugin.StartOptions{
		Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: r.dir, StateDir: r.path("state"),
		Streams: plugin.Streams{Stderr: plugin.Stream(r.path("stderr"))}, Options: map[string]string{OptionConfig: "config.toml"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.p.Signal(context.Background(), r.h, syscall.SIGKILL, true) })
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) read(name string) string {
	b, _ := os.ReadFile(r.path(name))
	return string(b)
}

func (r *rig) until(what string, cond func() bool) {
	r.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("never: %s; stderr: %s", what, r.read("stderr"))
		}
	}
}

func (r *rig) exists(name string) func() bool {
	return func() bool { _, err := os.Stat(r.path(name)); return err == nil }
}

func (r *rig) checkpoint(stop bool) error {
	if err := os.RemoveAll(r.path("image")); err != nil {
		r.Fatal(err)
	}
	if err := os.Mkdir(r.path("image"), 0o700); err != nil {
		r.Fatal(err)
	}
	_, err := r.p.Checkpoint(r.Context(), r.h, plugin.CheckpointOptions{Dir: r.path("image"), Stop: stop}, func(plugin.Progress) {})
	return err
}

func (r *rig) fails(kind plugin.Kind, words string, err error) {
	r.Helper()
	if plugin.KindOf(err) != kind || !strings.Contains(err.Error(), words) {
		r.Errorf("%v (%s), want %q (%s)", err, plugin.KindOf(err), words, kind)
	}
	if _, err := r.p.DescribeImage(r.Context(), r.path("image")); plugin.KindOf(err) != plugin.NotFound {
		r.Errorf("there is an image: %v", err)
	}
}

func (r *rig) ends(want int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if e, err := r.p.Wait(ctx, r.h); err != nil || e.Status() != want {
		r.Errorf("it ends with %d, %v; want %d", e.Status(), err, want)
	}
}

// TestNoHandler: a signal that would kill the program is not sent.
func TestNoHandler(t *testing.T) {
	r := start(t, "timeout = \"300ms\"\n[ask]\nsignal = \"USR1\"\n[done]\nfile = \"state.bin\"", "until [ -e go ]; do sleep 0.01; done; exit 7")
	r.fails(plugin.Refused, "does not catch SIGUSR1", r.checkpoint(false))
	write(t, r.path("go"), "")
	r.ends(7)
}

// TestHalfWritten: a file that is still being written is no checkpoint yet, and one
// that was there before is none at all.
func TestHalfWritten(t *testing.T) {
	r := start(t, "[ask]\nfile = \"please\"\n[done]\nfile = \"*.bin\"", `
echo old > old.bin; touch ready
until [ -e please ]; do sleep 0.01; done
exec 5> new.bin; echo first half >&5; touch half
until [ -e go ]; do sleep 0.01; done
echo second half >&5; exec 5>&-
until [ -e end ]; do sleep 0.01; done; exit 7`)
	r.until("ready", r.exists("ready"))
	go func() {
		r.until("half", r.exists("half"))
		time.Sleep(10 * look)
		write(t, r.path("go"), "")
	}()
	if err := r.checkpoint(false); err != nil {
		t.Fatal(err)
	}
	if got := r.read("image/files/new.bin"); got != "first half\nsecond half\n" {
		t.Errorf("saved is %q", got)
	}
	if r.exists("image/files/old.bin")() {
		t.Error("an old file was saved too")
	}
	if r.exists("please")() {
		t.Error("the request is still there")
	}
	write(t, r.path("end"), "")
	r.ends(7)
}

// leaver leaves with status 75 when it is asked, and is told so by the file left.
const leaver = `
echo x >> begun
trap 'echo state > state.bin; exit 75' USR1
touch ready
until [ -e go ]; do sleep 0.01; done; exit 7`

const leaverConfig = "[ask]\nsignal = \"USR1\"\n[done]\nexit = [75]\nfile = \"state.bin\"\n"

// A host that ends once it has made a checkpoint.
const (
	passerByHandle = "ESKY_TEST_HANDLE"
	passerByDir    = "ESKY_TEST_DIR"
)

func passBy() error {
	p := New("test")
	var h plugin.Handle
	if err := json.Unmarshal([]byte(os.Getenv(passerByHandle)), &h); err != nil {
		return err
	}
	if err := p.Recover(context.Background(), h); err != nil {
		return err
	}
	_, err := p.Checkpoint(context.Background(), h, plugin.CheckpointOptions{Dir: os.Getenv(passerByDir), Stop: true}, func(plugin.Progress) {})
	return err
}

// TestHostDies: a job whose host has died between the checkpoint and its end runs on.
func TestHostDies(t *testing.T) {
	for name, c := range map[string]struct{ config, begun string }{
		"left":           {leaverConfig, "x\nx\n"},
		"standing still": {"[done]\nfile = \"ready\"", "x\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, c.config, leaver)
			r.until("ready", r.exists("ready"))
			h, err := json.Marshal(r.h)
			if err != nil {
				t.Fatal(err)
			}
			host := exec.Command(os.Args[0])
			host.Env = append(os.Environ(), passerByHandle+"="+string(h), passerByDir+"="+r.path("image"))
			if out, err := host.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			r.until("it has begun again", func() bool { return r.read("begun") == c.begun })
			write(t, r.path("go"), "")
			r.ends(7)
		})
	}
}

// TestLate: a program that was asked to end, and does so when nobody waits any more,
// is started again.
func TestLate(t *testing.T) {
	r := start(t, "timeout = \"200ms\"\n"+leaverConfig, strings.Replace(leaver, "echo state", "touch asked; until [ -e slow ]; do sleep 0.01; done; echo state", 1))
	r.until("ready", r.exists("ready"))
	r.fails(plugin.Refused, "no checkpoint within 200ms", r.checkpoint(true))
	r.until("asked", r.exists("asked"))
	r.fails(plugin.Busy, "under way", r.checkpoint(true))
	write(t, r.path("slow"), "")
	r.until("it has begun again", func() bool { return r.read("begun") == "x\nx\n" })
	write(t, r.path("go"), "")
	r.ends(7)
}

// TestOwnEnd: the end of a program that was asked, but not by its checkpoint, is its
// own.
func TestOwnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		trap string
		want int
	}{"another status": {"echo state > state.bin; exit 9", 9}, "no file": {"exit 75", 75}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, leaverConfig, "trap '"+c.trap+"' USR1; touch ready; while :; do sleep 0.01; done")
			r.until("ready", r.exists("ready"))
			r.fails(plugin.Ended, "instead of leaving a checkpoint", r.checkpoint(true))
			r.ends(c.want)
		})
	}
}

// TestMissing: a checkpoint of which something is missing is none.
func TestMissing(t *testing.T) {
	r := start(t, "files = [\"nowhere*\"]\n[done]\nfile = \"ready\"", leaver)
	r.fails(plugin.Refused, `no file matches "nowhere*"`, r.checkpoint(true))
	write(t, r.path("go"), "")
	r.ends(7)
}

// TestKeeperKilled: without its keeper nobody can save the job, and another run may
// begin: so the program ends too.
func TestKeeperKilled(t *testing.T) {
	r := start(t, leaverConfig, "echo $$ > pid; "+leaver)
	r.until("ready", r.exists("ready"))
	if err := syscall.Kill(r.h.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := r.p.Wait(t.Context(), r.h); plugin.KindOf(err) != plugin.Lost {
		t.Errorf("wait: %v", err)
	}
	r.until("the program has ended", func() bool {
		_, err := os.Stat("/proc/" + strings.TrimSpace(r.read("pid")) + "/exe")
		return err != nil
	})
}

// TestFiles: what becomes of files that have changed since the checkpoint.
func TestFiles(t *testing.T) {
	for files, want := range map[string]string{"rollback": "old\n", "accept": "new\n", "strict": ""} {
		t.Run(files, func(t *testing.T) {
			r := start(t, "restart = [\"/bin/cp\", \"{file}\", \"copy\"]\n[done]\nfile = \"a/s[a-z]ate\"", "mkdir a; echo old > a/state; sleep 100")
			if err := r.checkpoint(true); err != nil {
				t.Fatal(err)
			}
			if err := r.p.Finish(t.Context(), r.h, true); err != nil {
				t.Fatal(err)
			}
			write(t, r.path("a/state"), "new\n")
			resumed, err := r.p.Resume(t.Context(), plugin.ResumeOptions{
				Dir: r.path("image"), StateDir: r.path("state"), Files: files, Env: []string{"PATH=/usr/bin:/bin"},
			}, func(plugin.Progress) {})
			if files == "strict" {
				if plugin.KindOf(err) != plugin.Changed {
					t.Errorf("strict: %v", err)
				}
				return
			}
			if err != nil || len(resumed.Notes) != 1 {
				t.Fatalf("%v, notes %v", err, resumed.Notes)
			}
			r.h = resumed.Job
			r.ends(0)
			if got := r.read("copy"); got != want {
				t.Errorf("it was restarted with %q, want %q", got, want)
			}
		})
	}
}

// TestConfig: what makes no sense is told before anything is started.
func TestConfig(t *testing.T) {
	for text, words := range map[string]string{
		"":                                     "say which files",
		"files = [\"a\"]":                      "does not say how",
		"[done]\nfile = \"/etc/passwd\"":       "not a pattern of names below",
		"[done]\nfile = \"../x\"":              "not a pattern of names below",
		"[done]\nfile = \"[\"":                 "not a pattern",
		"[done]\nfile = \"a\"\nexit = [0]":     "not asked",
		"[done]\nfile = \"a\"\n[ask]\nsig = 1": `"ask.sig" is not known`,
		"[done]\nfile = \"a\"\n[ask]\nsignal = \"FOO\"":             `no signal "FOO"`,
		"[done]\nfile = \"a\"\noutput = \"(\"\n[ask]\nfile = \"b\"": "done.output",
		"timeout = \"soon\"\n[done]\nfile = \"a\"":                  "timeout",
		"files = \"a\"": "incompatible types",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "c"), text)
		_, err := readConfig(map[string]string{OptionConfig: "c"}, dir)
		if plugin.KindOf(err) != plugin.Usage || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
	for _, o := range []map[string]string{nil, {OptionConfig: "nowhere"}, {"conf": "x"}} {
		if _, err := readConfig(o, t.TempDir()); plugin.KindOf(err) != plugin.Usage {
			t.Errorf("options %v: %v", o, err)
		}
	}
}
