// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// layOut lays out the launcher of batch scripts, an esky-wrap that tells how it was
// called, and a script.
func layOut(t *testing.T) (dir, script string) {
	t.Helper()
	dir = t.TempDir()
	text, err := os.ReadFile("batch")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "slurm", "batch"), text)
	write(t, filepath.Join(dir, "bin", "esky-wrap"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"))
	script = filepath.Join(dir, "slurm_script")
	write(t, script, []byte("#!/bin/sh\necho plain \"$@\"\n"))
	return dir, script
}

func launch(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{filepath.Join(dir, "slurm", "batch")}, args...)...)
	cmd.Dir, cmd.Env = dir, append(env, "PATH=/usr/bin:/bin", "SLURM_JOB_ID=7")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestBatch(t *testing.T) {
	dir, script := layOut(t)
	copied := filepath.Join(dir, ".esky", ".scripts", "7")
	for _, c := range []struct {
		name, want string
		env, args  []string
	}{
		{"spank", "run\n--every=30m\n--keep=3\n--\n" + copied + "\na b\n",
			[]string{"ESKY_BATCH_SCRIPT=" + script, "ESKY_BATCH_OPTIONS=every=30m,keep=3"}, []string{"a b"}},
		{"spank without options", "run\n--\n" + copied + "\n", []string{"ESKY_BATCH_SCRIPT=" + script, "ESKY_BATCH_OPTIONS="}, nil},
		{"interpreter", "run\n--\n/bin/bash\n-l\n" + copied + "\nx\n", nil, []string{"- /bin/bash -l", script, "x"}},
		{"interpreter and options", "run\n--fresh\n--keep=1\n--\n/bin/sh\n" + copied + "\n", nil, []string{"fresh,keep=1 /bin/sh", script}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := launch(t, dir, c.env, c.args...); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	if fi, err := os.Stat(copied); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the copy: %v, %v", fi, err)
	}
}

// Without esky, or without room for the script, the job still runs.
func TestBatchFailsOpen(t *testing.T) {
	dir, script := layOut(t)
	spank := []string{"ESKY_BATCH_SCRIPT=" + script, "ESKY_BATCH_OPTIONS="}
	if got := launch(t, dir, append(spank, "ESKY_STORE=/proc/nowhere"), "1"); got != "plain 1\n" {
		t.Errorf("no room: %q", got)
	}
	if err := os.Remove(filepath.Join(dir, "bin", "esky-wrap")); err != nil {
		t.Fatal(err)
	}
	if got := launch(t, dir, spank, "1", "2"); got != "plain 1 2\n" {
		t.Errorf("no esky-wrap: %q", got)
	}
	if got := launch(t, dir, nil, "- /bin/sh", script, "3"); strings.TrimSpace(got) != "plain 3" {
		t.Errorf("no esky-wrap, by its interpreter: %q", got)
	}
}

// Who calls srun in a script is told that its steps are not saved with it.
func TestBatchWithSteps(t *testing.T) {
	dir, script := layOut(t)
	for text, warned := range map[string]bool{
		"srun ./p": true, "  time srun -n2 ./p": true, "x=$(srun hostname)": true,
		"# srun ./p": false, "echo dsrun srunx ./srun.sh": false, "esky-wrap run -- ./p": false,
	} {
		write(t, script, []byte("#!/bin/sh\n"+text+"\n"))
		if err := os.RemoveAll(filepath.Join(dir, ".esky")); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", filepath.Join(dir, "slurm", "batch"))
		cmd.Dir = dir
		cmd.Env = []string{"PATH=/usr/bin:/bin", "SLURM_JOB_ID=7", "ESKY_BATCH_SCRIPT=" + script, "ESKY_BATCH_OPTIONS="}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "this script calls srun") != warned {
			t.Errorf("%s: %v, %s", text, err, out)
		}
	}
}
