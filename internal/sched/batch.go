// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Announced are the signals by which batch systems, or their users, announce the
// end of a job. SIGCONT comes along with some of them.
var Announced = []syscall.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU, syscall.SIGALRM,
}

// Named is a job of a scheduler that keeps the id when it starts a job again.
// What leads its session is the only command of the job; others are told apart
// by their command line. Start stands for a count of attempts that few
// schedulers give: it differs in each, and is the same for all commands of one.
func (f Facts) Named(scheduler, id string) Job {
	j := Job{
		Scheduler: scheduler, ID: id, Attempt: f.Start,
		Key: scheduler + "-" + safe(id), Sole: f.Leader, Leave: Announced, Ignore: []syscall.Signal{syscall.SIGCONT},
	}
	if safe(id) != id { // cut short, or with characters that a key cannot have
		j.Key += "-" + CommandHash([]string{id}, "")
	}
	if !j.Sole {
		j.Key += "-" + CommandHash(f.Command, f.Dir)
	}
	return j
}

// Renamed is a job that has another id each time it is started: only its
// command line and directory say that it is the same.
func (f Facts) Renamed(scheduler, id string) Job {
	j := f.Named(scheduler, id)
	j.Key, j.Sole = CommandKey(f.Command, f.Dir), false
	if f.Env(Resubmit) == "" {
		j.Warnings = append(j.Warnings, "the job is known by its command line and directory: "+
			"give jobs that run the same line in the same directory names of their own (--name)")
	}
	return j
}

// Resubmit is the variable of a command line that submits the job anew, for
// schedulers that do not start a job again by themselves.
const Resubmit = "ESKY_RESUBMIT"

// SubmitAgain leaves a job that its scheduler will not start again: by the
// user's own command, where there is one.
func (f Facts) SubmitAgain(scheduler string) Action {
	line := f.Env(Resubmit)
	if line == "" {
		return Action{Exit: ExitAgain, Note: scheduler + " does not start a job again: submit the same script once more to go on, " +
			"or set " + Resubmit + " to the command that does"}
	}
	return Action{Commands: [][]string{{"/bin/sh", "-c", line}}, Exit: ExitAgain, Note: "submitted again by: " + line}
}

// Clock reads a span of time as batch systems write them: "90", "1:30",
// "01:30:00", "2-01:30:00", the last number being seconds.
func Clock(s string) (time.Duration, bool) {
	days, rest, found := strings.Cut(strings.TrimSpace(s), "-")
	if !found {
		days, rest = "0", days
	}
	total, err := strconv.Atoi(days)
	if err != nil || total < 0 {
		return 0, false
	}
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return 0, false
	}
	sum := 0
	for _, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return 0, false
		}
		sum = sum*60 + n
	}
	return time.Duration(total)*24*time.Hour + time.Duration(sum)*time.Second, true
}
