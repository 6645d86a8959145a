// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// run is one of a job's runs in Slurm's own books.
type run struct{ state, exit, nodes, host string }

// labDir is the cluster's directory on this machine.
func labDir() string { return filepath.Dir(filepath.Dir(home())) }

// accounting tells whether the cluster has a slurmdbd. Without one there is only
// the log of completions, which calls a requeued job PENDING.
var accounting = sync.OnceValue(func() bool {
	text, err := os.ReadFile(filepath.Join(labDir(), "etc/slurm.conf"))
	return err == nil && strings.Contains(string(text), "accounting_storage/slurmdbd")
})

// runs are those of the job that have ended, oldest first. Of a heterogeneous job
// they are those of its first component.
func (j *job) runs() []run { return j.runsOf(j.id) }

func (j *job) runsOf(id string) []run {
	j.t.Helper()
	if !accounting() {
		return j.completions(id)
	}
	out, err := exec.Command("./slurm", "exec", "ctl", "timeout", "30", "sacct", "--allocations", "--duplicates", "--noheader", "--parsable2",
		"--jobs="+id, "--format=JobID,State,ExitCode,NNodes,NodeList").Output()
	if err != nil {
		j.t.Fatalf("sacct: %v", err)
	}
	var all []run
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 5 || f[0] != id && f[0] != id+"+0" {
			continue
		}
		state, _, _ := strings.Cut(f[1], " ") // CANCELLED by 5001
		if !slices.Contains([]string{"PENDING", "RUNNING", "SUSPENDED", "COMPLETING"}, state) {
			all = append(all, run{state, f[2], f[3], f[4]})
		}
	}
	return all
}

func (j *job) completions(id string) []run {
	text, err := os.ReadFile(filepath.Join(labDir(), "host/ctl/up/var/log/slurm/jobcomp"))
	if err != nil {
		j.t.Fatal(err)
	}
	var all []run
	for line := range strings.Lines(string(text)) {
		if rec := fields(line); rec["JobId"] == id {
			state := strings.ReplaceAll(rec["JobState"], "PENDING", "REQUEUED")
			all = append(all, run{state, rec["ExitCode"], rec["NodeCnt"], rec["NodeList"]})
		}
	}
	return all
}

// expectStates checks Slurm's books: the job had so many runs, each on one host,
// on those that its script has seen, and each ended in this state. The last record
// comes a little after the end.
func (j *job) expectStates(want ...string) { j.t.Helper(); j.expectStatesOf(j.id, j.hosts(), want...) }

func (j *job) expectStatesOf(id string, hosts []string, want ...string) {
	j.t.Helper()
	var got []run
	j.await("its records", 20*time.Second, func() bool {
		got = j.runsOf(id)
		return len(got) >= len(want)
	})
	var states []string
	for i, r := range got {
		states = append(states, r.state)
		if r.nodes != "1" || i < len(hosts) && r.host != hosts[i] {
			j.t.Errorf("job %s: run %d was on %s nodes, %s, and not on %v", id, i, r.nodes, r.host, hosts)
		}
	}
	if !slices.Equal(states, want) {
		j.t.Errorf("job %s: Slurm has recorded the states %v, not %v", id, states, want)
	}
}

// expectReturns is for a job that comes back as often as it takes, but at least once.
func (j *job) expectReturns(last string) {
	j.t.Helper()
	want := []string{"REQUEUED", last}
	for len(want) < len(j.hosts()) {
		want = append([]string{"REQUEUED"}, want...)
	}
	j.expectStates(want...)
}

// expectEnd compares the last record with what the queue said.
func (j *job) expectEnd(state, exit string) {
	j.t.Helper()
	var last run
	j.await("the record of its end: "+state, 20*time.Second, func() bool {
		all := j.runs()
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		return last.state == state
	})
	if last.exit != exit {
		j.t.Errorf("Slurm has recorded the exit code %s, not %s", last.exit, exit)
	}
}
