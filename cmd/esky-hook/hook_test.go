// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/internal/guard"
)

func TestSlurmJob(t *testing.T) {
	env := map[string]string{"SLURM_JOB_ID": "12", "SLURM_JOB_UID": "5001", "SLURM_JOB_GID": "5002"}
	get := func(k string) string { return env[k] }
	j, err := slurmJob(nil, get)
	if want := (job{id: "12", user: guard.User{UID: 5001, GID: 5002}}); err != nil || !reflect.DeepEqual(j, want) {
		t.Errorf("%+v, %v", j, err)
	}
	for key := range env {
		good := env[key]
		for _, bad := range []string{"", "0", "-1", "x", "1x", "4294967296", "4294967295"} {
			env[key] = bad
			if j, err := slurmJob(nil, get); err == nil {
				t.Errorf("%s=%q: accepted as %+v", key, bad, j)
			}
		}
		env[key] = good
	}
}

func TestOwns(t *testing.T) {
	for environ, want := range map[string]bool{
		"SLURM_JOB_ID=12\x00ESKY_JOB=slurm-12\x00":  true,
		"ESKY_JOB=slurm-12\x00SLURM_JOB_ID=12":      true,
		"SLURM_JOB_ID=12\x00":                       false,
		"SLURM_JOB_ID=123\x00ESKY_JOB=x\x00":        false,
		"ESKY_JOB=slurm-12\x00":                     false,
		"X=SLURM_JOB_ID=12\x00ESKY_JOB=x\x00":       false,
		"SLURM_JOB_ID=12\x00ESKY_JOB=\x00":          false,
		"SLURM_JOB_ID=12\x00SLURM_JOB_ID=3\x00ESKY": false,
		"": false,
		"JOB_ID=12\x00SGE_TASK_ID=undefined\x00ESKY_JOB=sge-12\x00": true,
		"JOB_ID=12\x00SGE_TASK_ID=3\x00ESKY_JOB=sge-12.3\x00":       false,
		"JOB_ID=12\x00SGE_TASK_ID=undefined\x00":                    false,
	} {
		if got := (job{id: "12"}).owns([]byte(environ)); got != want {
			t.Errorf("%q: %v", environ, got)
		}
	}
}

// sleeper starts a process with an environment of its own.
func sleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Env = append(env, "PATH=/usr/bin:/bin")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestEndStraysEndsThatJobsOnly(t *testing.T) {
	const id = "2147483646" // no Slurm gives a job this number
	stray := sleeper(t, "SLURM_JOB_ID="+id, "ESKY_JOB=slurm-"+id)
	others := []*exec.Cmd{
		sleeper(t, "SLURM_JOB_ID=2147483645", "ESKY_JOB=slurm-2147483645"),
		sleeper(t, "SLURM_JOB_ID="+id),
		sleeper(t),
	}
	n, err := job{id: id}.endStrays("/proc")
	if n != 1 || err != nil {
		t.Errorf("ended %d, %v", n, err)
	}
	if ws := wait(t, stray); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("the stray: %v", ws)
	}
	for _, c := range others {
		if err := c.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("another process was ended: %v", c.Env)
		}
	}
}

func wait(t *testing.T, cmd *exec.Cmd) syscall.WaitStatus {
	t.Helper()
	_ = cmd.Wait() // it was killed: the status is what counts
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestRemoveDeadSockets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "esky")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	listen := func(name string) *net.UnixListener {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		return l
	}
	listen("dead.sock").Close()
	living := listen("living.sock")
	defer living.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dead.sock", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := removeDeadSockets(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"dead.sock": false, "living.sock": true, "file": true, "link": true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRemoveDeadSocketsRefuses(t *testing.T) {
	top := t.TempDir()
	open, link := filepath.Join(top, "open"), filepath.Join(top, "link")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if err := removeDeadSockets(filepath.Join(top, "none")); err != nil {
		t.Errorf("no directory: %v", err)
	}
	if removeDeadSockets(link) == nil {
		t.Error("followed a link")
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if removeDeadSockets(open) == nil {
		t.Error("worked in a directory that everybody may write")
	}
}
