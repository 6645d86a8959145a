// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var gridengineLab = &cluster{script: "./gridengine"}

// gejob is a job of Grid Engine's, or a task of one.
type gejob struct {
	place
	task string // of an array; empty if there is none
}

// geJob makes the directory for one job. Tests of Grid Engine run side by side.
func geJob(t *testing.T, name string) *gejob {
	t.Helper()
	gridengineLab.need(t)
	if _, err := os.Stat("../../bin/esky-wrap"); err != nil {
		t.Fatal("bin/esky-wrap is not built: run make first")
	}
	j := &gejob{place: newPlace(t, gridengineLab.home, name)}
	j.about = func() any { return []any{j.state(), j.accounts()} }
	return j
}

// submit gives the script to qsub. Whatever becomes of the test, the job is gone
// afterwards.
func (j *gejob) submit(script string, args ...string) *gejob {
	j.t.Helper()
	path := filepath.Join(j.dir, "job.sh")
	begin := "#!/bin/sh\nPATH=/opt/esky/bin:$PATH\nhostname >>hosts\necho $RESTARTED >>restarted\n"
	if err := os.WriteFile(path, []byte(begin+script+"\n"), 0o755); err != nil {
		j.t.Fatal(err)
	}
	argv := append([]string{"submit", "-terse", "-N", j.name, "-wd", "/home/esk/" + j.name, "-o", "out", "-e", "err"}, args...)
	out := gridengineLab.run(j.t, append(argv, j.name+"/job.sh")...)
	j.id, _, _ = strings.Cut(strings.TrimSpace(out), ".") // an array is named 7.1-3:1
	j.t.Cleanup(func() {
		if j.t.Failed() {
			j.t.Logf("%s: hosts: %s\nerr: %s\nout: %s\n%v\n%v", j.id, j.read("hosts"), j.read("err"), j.read("out"), j.state(), j.accounts())
		}
		_ = exec.Command("./gridengine", "exec", "ctl", "timeout", "30", "qdel", j.id).Run()
		j.await("its end after the test", time.Minute, func() bool { return j.state() == "" })
	})
	return j
}

// ge runs a command on the controller as the job's owner, geRoot as root.
func ge(t *testing.T, args ...string) string {
	t.Helper()
	return gridengineLab.run(t, append([]string{"exec", "ctl", "timeout", "30"}, args...)...)
}

func geRoot(t *testing.T, args ...string) string {
	t.Helper()
	return geRootOn(t, "ctl", args...)
}

func geRootOn(t *testing.T, host string, args ...string) string {
	t.Helper()
	cmd := exec.Command("./gridengine", append([]string{"exec", host, "timeout", "30"}, args...)...)
	cmd.Env = append(os.Environ(), "ESKY_LAB_USER=root")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %q: %v: %s", host, args, err, out)
	}
	return string(out)
}

// state is what qstat shows of the job: qw, r, s, Rq, Eqw …; empty once it has
// ended. Of an array it is that of the task.
func (j *gejob) state() string {
	state, _ := j.shown()
	return state
}

func (j *gejob) shown() (state, queue string) {
	out, err := exec.Command("./gridengine", "exec", "ctl", "timeout", "30", "qstat").Output()
	if err != nil {
		return "?", ""
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // id prior name user state date time [queue] slots [task]
		if len(f) < 8 || f[0] != j.id {
			continue
		}
		if j.task != "" && f[len(f)-1] != j.task {
			continue
		}
		return f[4], f[7]
	}
	return "", ""
}

// accounts are Grid Engine's records of the job's runs, oldest first.
func (j *gejob) accounts() []map[string]string {
	args := []string{"exec", "ctl", "timeout", "30", "qacct", "-j", j.id}
	if j.task != "" {
		args = append(args, "-t", j.task)
	}
	out, err := exec.Command("./gridengine", args...).Output()
	if err != nil {
		return nil // not there yet
	}
	var all []map[string]string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "=====") {
			all = append(all, map[string]string{})
			continue
		}
		name, value, ok := strings.Cut(line, " ")
		if ok && len(all) > 0 {
			all[len(all)-1][name] = strings.TrimSpace(value)
		}
	}
	return all
}

// awaitEnd waits until Grid Engine has done with the job: the records of its runs
// say how each ended, "failed/exit_status".
func (j *gejob) awaitEnd(limit time.Duration, want ...string) []map[string]string {
	j.t.Helper()
	runs := j.awaitRecords(limit, len(want))
	if got := endings(runs); strings.Join(got, " ") != strings.Join(want, " ") {
		j.t.Errorf("the runs ended %v, want %v", got, want)
	}
	return runs
}

// awaitSlices is awaitEnd for a job that comes back as often as it takes.
func (j *gejob) awaitSlices(limit time.Duration, want string) {
	j.t.Helper()
	j.awaitRecords(limit, 2)
	got := endings(j.awaitRecords(limit, len(j.hosts()))) // the last comes a moment after the job has gone
	for i, one := range got {
		if last := i == len(got)-1; last && one != want || !last && one != again {
			j.t.Errorf("the runs ended %v, want the last %s and all others %s", got, want, again)
		}
	}
}

func (j *gejob) awaitRecords(limit time.Duration, n int) []map[string]string {
	j.t.Helper()
	var runs []map[string]string
	j.await("its end", limit, func() bool {
		if j.state() != "" {
			return false
		}
		runs = j.accounts()
		return len(runs) >= n
	})
	return runs
}

func endings(runs []map[string]string) []string {
	var all []string
	for _, r := range runs {
		failed, _, _ := strings.Cut(r["failed"], " ")
		exit, _, _ := strings.Cut(r["exit_status"], " ")
		all = append(all, failed+"/"+exit)
	}
	return all
}

// hostsOf are the hosts of the runs, from the records.
func hostsOf(runs []map[string]string) string {
	var all []string
	for _, r := range runs {
		all = append(all, r["hostname"])
	}
	return strings.Join(all, " ")
}

// awaitRun waits until the script has begun n times, and gives the host.
func (j *gejob) awaitRun(n int) string {
	j.t.Helper()
	j.await("another run", time.Minute, func() bool { return len(j.hosts()) >= n })
	return j.hosts()[n-1]
}

// wantRestarted compares what RESTARTED was in each run.
func (j *gejob) wantRestarted(want string) {
	j.t.Helper()
	if got := strings.Join(strings.Fields(j.read("restarted")), " "); got != want {
		j.t.Errorf("RESTARTED was %q, want %q", got, want)
	}
}

// awaitImage waits for the image with this number, or a later one.
func (j *gejob) awaitImage(n int) {
	j.t.Helper()
	j.await(fmt.Sprintf("image %d", n), time.Minute, func() bool {
		all := j.images()
		return len(all) > 0 && filepath.Base(all[len(all)-1]) >= fmt.Sprintf("gen-%06d", n)
	})
}
