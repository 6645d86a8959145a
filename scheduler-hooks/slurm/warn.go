// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Why a job does not come back by itself.
const (
	interactive = "it is not a batch job"
	noRequeue   = "it was submitted with --no-requeue"
)

// warnings are what the user should know before trusting the job to esky.
func warnings(j sched.Job, f sched.Facts, rec, conf record) []string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	switch j.NoReturn {
	case interactive:
		add("Slurm requeues batch jobs only: once this one has left, run the same line again in a new allocation")
		return w
	case noRequeue:
		add("the job was submitted with --no-requeue: it comes back when esky asks for it, but not after a node failure; submit with --requeue")
	}
	if truncated(f, rec, conf) && !j.Step {
		add("the output file will be emptied when the job comes back: submit with --open-mode=append, and redirect by >> if at all")
	}
	if !batchProcess(f) {
		add("esky-wrap is not the process that Slurm signals: write \"exec esky-wrap run …\" as the last line of the batch script, or start it by srun")
	}
	if track := conf["ProctrackType"]; signalsAll(track) {
		add("%s sends SIGTERM to the program itself too, at the end of its time and when it is preempted; leave earlier: sbatch --signal=B:USR1@SECONDS", track)
	}
	if nodes := rec.text("ReqNodeList"); nodes != "" {
		add("the job demands the host %s (--nodelist), so it cannot move to another", nodes)
	}
	return w
}

// truncated tells whether what the job has written so far is lost when it is
// started again. Slurm opens a batch job's output with O_APPEND in both modes,
// so that the descriptor alone tells only of a redirection by the script; sbatch
// tells of its mode by SLURM_OPEN_MODE, where one was chosen.
func truncated(f sched.Facts, rec, conf record) bool {
	if !f.Stdout.Regular {
		return false
	}
	if !f.Stdout.Append {
		return true
	}
	if filepath.Base(f.Stdout.Path) != filepath.Base(rec["StdOut"]) {
		return false // the script's own file, by >>
	}
	switch f.Env("SLURM_OPEN_MODE") {
	case "a":
		return false
	case "t":
		return true
	}
	return conf["JobFileAppend"] == "0"
}

// signalsAll tells whether a process tracking plugin signals all processes of a
// job. proctrack/cgroup signals direct children of slurmstepd only.
func signalsAll(track string) bool {
	return strings.HasSuffix(track, "/linuxproc") || strings.HasSuffix(track, "/pgid")
}
