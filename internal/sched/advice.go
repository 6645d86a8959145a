// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"regexp"
	"slices"
	"strings"
)

var (
	quoted   = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	pipe     = regexp.MustCompile(`(^|[^|])\|([^|]|$)`)
	emptied  = regexp.MustCompile(`(?:^|[^>])>\s*([^>&\s]+)`)
	storeIs  = regexp.MustCompile(`(?:\bESKY_STORE=|--store[= ]\s*)["']?([^\s"']+)`)
	oneName  = regexp.MustCompile(`--name[= ]\s*["']?[^\s"'$]+["']?(\s|$)`)
	fromTo   = regexp.MustCompile(`^[0-9]+-[0-9]|\[[0-9]`)
	hostOnly = regexp.MustCompile(`^(/tmp|/var/tmp|/dev/shm|/run)(/|$)|^\$\{?(TMPDIR|SLURM_TMPDIR|PBS_JOBFS|XDG_RUNTIME_DIR)\b`)
)

// command tells how the script runs esky.
func (s Script) command() []string {
	at := slices.IndexFunc(s.Lines, func(l string) bool { return strings.Contains(l, "esky-wrap run") })
	if at < 0 {
		return []string{"the script does not run anything under esky: write \"exec esky-wrap run -- PROGRAM\" as its last line"}
	}
	var told []string
	add := func(text string) { told = append(told, text) }
	bare := quoted.ReplaceAllString(s.Lines[at], "")
	switch {
	case pipe.MatchString(bare):
		add("in a pipeline (|) the shell stays between the scheduler and esky-wrap, and what else is in it is not saved: write \"exec esky-wrap run -- sh -c '… | …'\"")
	case strings.Contains(bare, "srun "), s.Mentions("trap "):
		// The scheduler's signals get to esky, or the script does something of its own.
	case !strings.HasPrefix(bare, "exec "):
		add("the shell stays between the scheduler and esky-wrap, and signals to it do not reach esky: write \"exec esky-wrap run …\" as the last line")
	case at < len(s.Lines)-1:
		add("what stands below \"exec esky-wrap run\" is never run: \"" + s.Lines[at+1] + "\"")
	}
	if m := emptied.FindStringSubmatch(bare); m != nil {
		add("the shell empties " + m[1] + " each time the job comes back: write >> instead of >")
	}
	if s.isArray() && oneName.MatchString(s.Lines[at]) {
		add("all tasks of the array would be one job, for they have one name: put the task's number into --name, or leave it out where the job keeps its id")
	}
	return append(told, s.store()...)
}

// isArray tells whether an option asks for several tasks: "-t 1-10", "-J x[1-10]".
func (s Script) isArray() bool {
	for i, o := range s.Options {
		if i > 0 && fromTo.MatchString(o) && slices.Contains([]string{"-t", "-J", "-a", "--array"}, s.Options[i-1]) {
			return true
		}
	}
	return false
}

// OnSeveralHosts is what to say of a job that asks for them.
func OnSeveralHosts(asked, instead string) string {
	return asked + ": esky saves what runs on one host; a program that spans several (MPI) cannot be saved: " + instead + ", or let the program save itself"
}

// OnGPU is what to say of a job that asks for one.
func OnGPU(asked string) string {
	return asked + ": what is in a GPU is not saved, and a program that uses one is refused: let it save itself (--provider application)"
}

// store tells where the images would be.
func (s Script) store() []string {
	where := storeIs.FindStringSubmatch(strings.Join(s.Lines, "\n"))
	switch {
	case where == nil:
		return []string{"the store is .esky in the directory where the job starts: set ESKY_STORE or --store to a directory that all hosts share"}
	case hostOnly.MatchString(where[1]):
		return []string{"the store " + where[1] + " is there on one host only, and the job may come back on another: choose a directory that all hosts share (--local is for fast places on a host)"}
	}
	return nil
}
