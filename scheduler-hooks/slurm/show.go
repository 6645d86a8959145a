// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

// record holds the fields of one thing that scontrol showed.
type record map[string]string

func showJob(ctx context.Context, ask sched.Ask, ref string) (record, error) {
	out, err := ask(ctx, "scontrol", "--oneliner", "show", "job", ref)
	if err != nil {
		return nil, err
	}
	rec := parseJob(out)
	if rec["JobState"] == "" {
		return nil, fmt.Errorf("scontrol show job %s: no job state in its answer", ref)
	}
	return rec, nil
}

// parseJob reads "Key=Value Key=Value …" on one line. Values may contain blanks
// (Command, Comment), and no quoting tells them apart; so a word starts a new
// field only if it begins with a name that Slurm could have written. The first
// of two fields of one name wins: those that a user fills come last.
func parseJob(out string) record {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	rec := record{}
	last := ""
	for _, word := range strings.Split(line, " ") {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case ok && fieldName(name):
			last = name
			if _, seen := rec[name]; seen {
				last = ""
				continue
			}
			rec[name] = value
		case last != "":
			rec[last] += " " + word
		}
	}
	for name, value := range rec {
		rec[name] = strings.TrimSpace(value)
	}
	return rec
}

// fieldName accepts JobId, CPUs/Task, NtasksPerN:B:S:C and the like.
func fieldName(s string) bool {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:/_") == ""
}

func showConfig(ctx context.Context, ask sched.Ask) (record, error) {
	out, err := ask(ctx, "scontrol", "show", "config")
	if err != nil {
		return nil, err
	}
	return parseConfig(out), nil
}

// parseConfig reads lines "Name   = value".
func parseConfig(out string) record {
	rec := record{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, "="); ok {
			rec[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return rec
}

// text is a field's value, or "" where Slurm writes that there is none.
func (r record) text(name string) string {
	switch v := r[name]; v {
	case "(null)", "None", "N/A", "Unknown":
		return ""
	default:
		return v
	}
}

// seconds reads "30 sec".
func (r record) seconds(name string) time.Duration {
	n, _, _ := strings.Cut(r[name], " ")
	return time.Duration(atoi(n)) * time.Second
}

// left is the rest of the time limit. It is computed from two durations, for
// EndTime is local time, which is not a time twice a year; and RunTime already
// leaves out the time that the job was suspended.
func (r record) left() (time.Duration, bool) {
	limit, ok := duration(r["TimeLimit"])
	if !ok {
		return 0, false
	}
	ran, ok := duration(r["RunTime"])
	return limit - ran, ok
}

// duration reads "[days-]hours:minutes:seconds"; UNLIMITED and the like are none.
func duration(s string) (time.Duration, bool) {
	days, rest, ok := strings.Cut(s, "-")
	if !ok {
		days, rest = "0", s
	}
	parts := strings.Split(rest, ":")
	if len(parts) != 3 {
		return 0, false
	}
	total := time.Duration(0)
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseUint(append([]string{days}, parts...)[i], 10, 20)
		if err != nil {
			return 0, false
		}
		total += time.Duration(n) * unit
	}
	return total, true
}
