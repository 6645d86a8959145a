// SPDX-License-Identifier: Apache-2.0

// Package lab runs esky under a real Slurm: three hosts on this machine, started
// by the script "slurm" in this directory. It needs root, and minutes.
//
//	make && ESKY_LAB=1 go test -v ./test/lab
//
// A cluster that is up already is used and left up.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// The cluster of all tests; it starts with the first one that needs it.
var cluster struct {
	once sync.Once
	home string // where its /home/esk lies on this machine
	ours bool   // started here, so to be stopped here
	err  error
}

// home is the cluster's /home/esk as this machine sees it.
func home() string { return cluster.home }

func TestMain(m *testing.M) {
	status := m.Run()
	if cluster.ours {
		if out, err := exec.Command("./slurm", "down").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "slurm down: %v: %s\n", err, out)
			status = 1
		}
	}
	os.Exit(status)
}

// need makes sure that there is a cluster, or skips the test.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv("ESKY_LAB") == "" {
		t.Skip("starts a Slurm of three hosts on this machine, for minutes: only with ESKY_LAB=1 (make test-lab)")
	}
	if os.Geteuid() != 0 {
		t.Skip("the cluster needs root, for hosts with users and a network of their own")
	}
	cluster.once.Do(func() { cluster.err = startCluster() })
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
}

func startCluster() error {
	cluster.ours = exec.Command("./slurm", "status").Run() != nil
	// If it is up already this brings the newest programs in.
	if out, err := exec.Command("./slurm", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("slurm up: %w: %s", err, out)
	}
	dir, err := exec.Command("./slurm", "dir").Output()
	if err != nil {
		return fmt.Errorf("slurm dir: %w", err)
	}
	cluster.home = filepath.Join(strings.TrimSpace(string(dir)), "home", "esk")
	cc := exec.Command("cc", "-O2", "-Wall", "-Werror", "-o", filepath.Join(home(), "count"), "testdata/count.c")
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	return nil
}

// slurm runs test/lab/slurm and returns its stdout.
func slurm(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./slurm", args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("slurm %q: %v: %s%s", args, err, out, errs.Bytes())
	}
	return string(out)
}

// on runs a command on the controller as the user esk.
func on(t *testing.T, args ...string) string {
	t.Helper()
	return slurm(t, append([]string{"exec", "ctl", "timeout", "30"}, args...)...)
}

// a job of the test, in a directory of its own below the cluster's /home/esk.
type job struct {
	t    *testing.T
	id   string
	dir  string // on this machine
	name string // the directory's name
}

// workplace makes the directory for one job.
func workplace(t *testing.T, name string) *job {
	t.Helper()
	j := &job{t: t, name: name, dir: filepath.Join(home(), name)}
	if err := os.RemoveAll(j.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(j.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(j.dir, 5001, 5001); err != nil {
		t.Fatal(err)
	}
	return j
}

// submit gives the script to sbatch. Whatever becomes of the test, the job is
// gone afterwards.
func (j *job) submit(script string, args ...string) *job {
	j.t.Helper()
	path := filepath.Join(j.dir, "job.sh")
	if err := os.WriteFile(path, []byte("#!/bin/bash\nhostname >>hosts\n"+script+"\n"), 0o755); err != nil {
		j.t.Fatal(err)
	}
	argv := append([]string{"submit", "--parsable", "-J", j.name, "-D", "/home/esk/" + j.name, "-o", "out", "-e", "err"}, args...)
	j.id = strings.TrimSpace(slurm(j.t, append(argv, j.name+"/job.sh")...))
	j.t.Cleanup(func() {
		_ = exec.Command("./slurm", "exec", "ctl", "timeout", "30", "scancel", j.id).Run()
		j.await("its end after the test", time.Minute, func() bool { return !j.has("CG") && !j.has("R") && !j.has("PD") })
		if j.t.Failed() {
			j.t.Logf("%s: hosts: %s\nerr: %s\n%v", j.id, j.read("hosts"), j.read("err"), j.show())
		}
	})
	return j
}

var field = regexp.MustCompile(`(\w+)=(\S*)`)

// show returns the fields of scontrol show job, of the first record; empty if
// Slurm has forgotten the job.
func (j *job) show() map[string]string { return j.showID(j.id) }

func (j *job) showID(id string) map[string]string {
	rec := map[string]string{}
	out, err := exec.Command("./slurm", "exec", "ctl", "timeout", "30", "scontrol", "-o", "show", "job", id).Output()
	if err != nil {
		return rec
	}
	line, _, _ := strings.Cut(string(out), "\n")
	for _, m := range field.FindAllStringSubmatch(line, -1) {
		if _, seen := rec[m[1]]; !seen {
			rec[m[1]] = m[2]
		}
	}
	// The comment is the one field with blanks that counts here.
	if _, rest, ok := strings.Cut(line, " Comment="); ok {
		rec["Comment"], _, _ = strings.Cut(rest, " StdErr=")
	}
	return rec
}

// has tells whether the queue shows the job, or one of its tasks, in a state.
func (j *job) has(state string) bool {
	out, err := exec.Command("./slurm", "exec", "ctl", "timeout", "30", "squeue", "-h", "-j", j.id, "-o", "%t").Output()
	return err == nil && strings.Contains(" "+strings.Join(strings.Fields(string(out)), " ")+" ", " "+state+" ")
}

func (j *job) await(what string, limit time.Duration, reached func() bool) {
	j.t.Helper()
	for end := time.Now().Add(limit); !reached(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			j.t.Fatalf("job %s: waited %v for %s: %v", j.id, limit, what, j.show())
		}
	}
}

// awaitRound waits until the program's output has come so far.
func (j *job) awaitRound(n int, file string) {
	j.t.Helper()
	j.await(fmt.Sprintf("round %d", n), time.Minute, func() bool {
		return strings.Contains(j.read(file), fmt.Sprintf("round %d ", n))
	})
}

// awaitState waits for a final state of the job, and checks its exit status.
func (j *job) awaitState(limit time.Duration, state, exit string) {
	j.t.Helper()
	j.await("state "+state, limit, func() bool {
		switch s := j.show()["JobState"]; s {
		case state:
			return true
		case "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY":
			j.t.Fatalf("job %s ended %s, not %s", j.id, s, state)
		}
		return false
	})
	if got := j.show()["ExitCode"]; got != exit {
		j.t.Errorf("exit code %s, want %s", got, exit)
	}
}

func (j *job) read(name string) string {
	text, err := os.ReadFile(filepath.Join(j.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// hosts are those that the job's attempts ran on, in order.
func (j *job) hosts() []string { return strings.Fields(j.read("hosts")) }

// expect compares the program's output with that of an uninterrupted run.
func (j *job) expect(rounds int, file string) {
	j.t.Helper()
	want, err := exec.Command(filepath.Join(home(), "count"), fmt.Sprint(rounds), "0", "0").Output()
	if err != nil {
		j.t.Fatal(err)
	}
	if got := j.read(file); got != string(want) {
		j.t.Errorf("output of %s differs from that of an uninterrupted run; got\n%s", file, got)
	}
}

// images lists the generations in the job's store.
func (j *job) images() []string {
	found, err := filepath.Glob(filepath.Join(j.dir, ".esky", "*", "gen-*"))
	if err != nil {
		j.t.Fatal(err)
	}
	return found
}

// occupy fills a host with a job of the partition that preempts.
func occupy(t *testing.T, host, seconds string) *job {
	t.Helper()
	return workplace(t, "occupant-"+host).submit("exec sleep "+seconds, "-p", "high", "-w", host, "--exclusive", "-t", "5")
}

func needEsky(t *testing.T) {
	t.Helper()
	need(t)
	if _, err := os.Stat("../../bin/esky-wrap"); err != nil {
		t.Fatal("bin/esky-wrap is not built: run make first")
	}
}

// needQuietEnd skips a test of what esky does in KillWait where Slurm's SIGTERM
// ends the program itself before it can be saved.
func needQuietEnd(t *testing.T) {
	t.Helper()
	needEsky(t)
	track, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(home())), "proctrack"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(track)) == "linuxproc" {
		t.Skip("this machine has no cgroup freezer, and proctrack/linuxproc sends SIGTERM to the program itself")
	}
}
