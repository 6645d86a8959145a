// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// site lays a hook script out as a site does, with hook as its bin/esky-hook
// (none if empty), and its time-out cut to one second.
func site(t *testing.T, script, hook string) string {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	short := regexp.MustCompile(`timeout -k 2 \S+ "\$hook"`).ReplaceAll(text, []byte(`timeout -k 1 1 "$$hook"`))
	if bytes.Equal(short, text) {
		t.Fatalf("%s has no time-out", script)
	}
	write(t, filepath.Join(dir, "slurm", script), short)
	if hook != "" {
		write(t, filepath.Join(dir, "bin", "esky-hook"), []byte("#!/bin/sh\n"+hook+"\n"))
	}
	return filepath.Join(dir, "slurm", script)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Slurm drains a node whose prolog or epilog fails or hangs.
func TestHooksCannotDrainANode(t *testing.T) {
	for _, script := range []string{"prolog", "epilog"} {
		for name, hook := range map[string]string{
			"works":      "exit 0",
			"fails":      "exit 1",
			"is killed":  "kill -KILL $$",
			"hangs":      "trap '' TERM; sleep 60",
			"not there":  "",
			"no program": "\x7fELF nonsense",
		} {
			t.Run(script+" "+name, func(t *testing.T) {
				t.Parallel()
				// By sh: a script that a parallel fork still has open for
				// writing cannot be executed itself (ETXTBSY).
				cmd := exec.Command("/bin/sh", site(t, script, hook))
				cmd.Env = []string{"SLURM_JOB_ID=1"} // no PATH, as Slurm calls it
				begin := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if d := time.Since(begin); d > 20*time.Second {
					t.Errorf("took %v", d)
				}
			})
		}
	}
}

func TestHooksCallTheProgram(t *testing.T) {
	for script, want := range map[string]string{
		"prolog": "prolog 7 / \nstage 90 7 / /fast/esk\n",
		"epilog": "epilog 7 / \ndrain 90 7 / \n",
	} {
		mark := filepath.Join(t.TempDir(), "mark")
		path := site(t, script, `echo "$* $SLURM_JOB_ID $(pwd) $ESKY_LOCAL" >>`+mark)
		conf(t, path, "local=/fast/$user; limit=90")
		cmd := exec.Command(path)
		cmd.Env = []string{"SLURM_JOB_ID=7", "SLURM_JOB_USER=esk", "SLURM_JOB_RESTART_COUNT=1"}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(mark)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
}

// Nor does a mistake in the site's file get a node drained, or a task refused.
func TestHooksSurviveTheirConfiguration(t *testing.T) {
	for _, script := range []string{"prolog", "epilog", "task-prolog"} {
		for _, line := range []string{"limit=(", "limit=1h; local=/fast", "exit 3", "no-such-command", "readonly local; local=/x"} {
			text, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "slurm", script)
			write(t, path, text)
			write(t, filepath.Join(filepath.Dir(path), "../bin/esky-hook"), []byte("#!/bin/sh\n"))
			conf(t, path, line)
			cmd := exec.Command("/bin/sh", path)
			cmd.Env = []string{"SLURM_JOB_ID=7", "SLURM_JOB_USER=esk", "SLURM_JOB_RESTART_COUNT=1"}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s with %q: %v: %s", script, line, err, out)
			}
		}
	}
}

// conf puts the shipped esky.conf beside a script, with a line of the site's own.
func conf(t *testing.T, script, line string) {
	t.Helper()
	text, err := os.ReadFile("esky.conf")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(filepath.Dir(script), "esky.conf"), append(text, line+"\n"...))
}

func TestTaskProlog(t *testing.T) {
	text, err := os.ReadFile("task-prolog")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, site string
		env        []string
		want       string
	}{
		{"as shipped", "", []string{"SLURM_JOB_USER=esk"}, ""},
		{"the site's", "store=/scratch/$user/esky; local=/fast", []string{"SLURM_JOB_USER=esk"},
			"export ESKY_STORE=/scratch/esk/esky\nexport ESKY_LOCAL=/fast\n"},
		{"the user's own", "store=/scratch; local=/fast", []string{"SLURM_JOB_USER=esk", "ESKY_STORE=/x"}, "export ESKY_LOCAL=/fast\n"},
		{"no job", "store=/scratch", nil, ""},
		{"strange user", "store=/scratch/$user", []string{"SLURM_JOB_USER=../x|e"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "task-prolog")
			write(t, path, text)
			conf(t, path, c.site)
			cmd := exec.Command(path)
			cmd.Env = append(c.env, "PATH=/usr/bin:/bin")
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != c.want {
				t.Errorf("%v, %q; want %q", err, out, c.want)
			}
		})
	}
}
