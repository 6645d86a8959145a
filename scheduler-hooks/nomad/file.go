// SPDX-License-Identifier: Apache-2.0

package nomad

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

var (
	jobBlock   = regexp.MustCompile(`(?m)^[ \t]*job[ \t]+"`)
	taskBlock  = regexp.MustCompile(`(?m)^[ \t]*task[ \t]+"`)
	killAfter  = regexp.MustCompile(`kill_timeout\s*=\s*"([^"]+)"`)
	graceValue = regexp.MustCompile(graceVar + `\s*=\s*"(\d+)"`)
)

// ReadFile implements sched.FileReader: for a job's file in Nomad's language.
func (Adapter) ReadFile(text string) (told []string, ok bool) {
	if !jobBlock.MatchString(text) || !taskBlock.MatchString(text) {
		return nil, false
	}
	add := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	if !strings.Contains(text, "esky-wrap") {
		add("no task runs anything under esky: write command = \"/usr/local/bin/esky-wrap\" and args = [\"run\", \"--\", PROGRAM]")
	}
	if !strings.Contains(strings.Join(strings.Fields(text), " "), `type = "batch"`) {
		add("only a batch job ends when its program has: write type = \"batch\"")
	}
	limit, passed := killAfter.FindStringSubmatch(text), graceValue.FindStringSubmatch(text)
	switch {
	case limit == nil:
		add("5 s lie between the warning and the kill: set kill_timeout to twice what saving takes, and %s to its seconds", graceVar)
	case passed == nil:
		add("esky does not know of kill_timeout = %q: set %s to its seconds", limit[1], graceVar)
	default:
		if span, err := time.ParseDuration(limit[1]); err == nil && fmt.Sprint(span.Seconds()) != passed[1] {
			add("%s is %s, and kill_timeout is %s: write the same", graceVar, passed[1], limit[1])
		}
	}
	if !strings.Contains(text, "ESKY_STORE") && !strings.Contains(text, "--store") {
		add("the images go with the allocation: set ESKY_STORE to a directory that all clients share")
	}
	if !strings.Contains(text, "reschedule") {
		add("Nomad brings a batch job to another client once a day at most: say how often in a reschedule block")
	}
	return told, true
}
