// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var slurmLab = &cluster{script: "./slurm"}

// home is the cluster's /home/esk as this machine sees it.
func home() string { return slurmLab.home }

// need makes sure that there is a Slurm, or skips the test.
func need(t *testing.T) {
	t.Helper()
	slurmLab.need(t)
}

// a job of Slurm's.
type job struct {
	place
	env      []string // what sbatch has besides
	argument string   // of the script
}

// workplace makes the directory for one job.
func workplace(t *testing.T, name string) *job {
	t.Helper()
	j := &job{place: newPlace(t, home(), name)}
	j.about = func() any { return j.show() }
	return j
}

// slurm runs test/lab/slurm and returns its stdout.
func slurm(t *testing.T, args ...string) string {
	t.Helper()
	return slurmLab.run(t, args...)
}

// on runs a command on the controller as the user esk.
func on(t *testing.T, args ...string) string {
	t.Helper()
	return slurm(t, append([]string{"exec", "ctl", "timeout", "30"}, args...)...)
}

// submit gives the script to sbatch. Whatever becomes of the test, the job is
// gone afterwards.
func (j *job) submit(script string, args ...string) *job {
	j.t.Helper()
	path := filepath.Join(j.dir, "job.sh")
	if err := os.WriteFile(path, []byte("#!/bin/bash\nhostname >>hosts\n"+script+"\n"), 0o755); err != nil {
		j.t.Fatal(err)
	}
	argv := slices.Concat([]string{"exec", "ctl", "env"}, j.env,
		[]string{"timeout", "20", "sbatch", "--parsable", "-J", j.name, "-D", "/home/esk/" + j.name, "-o", "out", "-e", "err"}, args, []string{j.name + "/job.sh"})
	if j.argument != "" {
		argv = append(argv, j.argument)
	}
	j.id = strings.TrimSpace(slurm(j.t, argv...))
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
	rec = fields(line)
	// The comment is the one field with blanks that counts here.
	if _, rest, ok := strings.Cut(line, " Comment="); ok {
		rec["Comment"], _, _ = strings.Cut(rest, " StdErr=")
	}
	return rec
}

// fields are the words NAME=VALUE of a line, the first of each name.
func fields(line string) map[string]string {
	rec := map[string]string{}
	for _, m := range field.FindAllStringSubmatch(line, -1) {
		if _, seen := rec[m[1]]; !seen {
			rec[m[1]] = m[2]
		}
	}
	return rec
}

// has tells whether the queue shows the job, or one of its tasks, in a state.
func (j *job) has(state string) bool {
	out, err := exec.Command("./slurm", "exec", "ctl", "timeout", "30", "squeue", "-h", "-j", j.id, "-o", "%t").Output()
	return err == nil && strings.Contains(" "+strings.Join(strings.Fields(string(out)), " ")+" ", " "+state+" ")
}

// awaitState waits for a final state of the job, and for its record with the exit
// status.
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
	j.expectEnd(state, exit)
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
	track, err := os.ReadFile(filepath.Join(labDir(), "proctrack"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(track)) == "linuxproc" {
		t.Skip("this machine has no cgroup freezer, and proctrack/linuxproc sends SIGTERM to the program itself")
	}
}
