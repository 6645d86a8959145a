// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

var (
	kindJob    = regexp.MustCompile(`(?m)^[ \t]*"?kind"?:[ \t]*"?Job\b`)
	graceLine  = regexp.MustCompile(`terminationGracePeriodSeconds"?:[ \t]*(\d+)`)
	graceValue = regexp.MustCompile(graceVar + `"?,?\s*"?value"?:\s*"?(\d+)`)
	byShell    = regexp.MustCompile(`-c["']?,?\s*(?:-\s*)?["']?(?:[^"'\n]*[ /])?esky-wrap run`)
	leaving    = regexp.MustCompile(fmt.Sprintf(`values"?:\s*(?:\[|-\s*)[^\]]*\b%d\b`, sched.ExitAgain))
)

// ReadFile implements sched.FileReader: for the manifest of a Job. It is looked
// through, not parsed, for all that matters are words that are there or not.
func (Adapter) ReadFile(text string) (told []string, ok bool) {
	if !kindJob.MatchString(text) || !strings.Contains(text, "batch/v1") {
		return nil, false
	}
	add := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	switch run := byShell.FindString(text); {
	case !strings.Contains(text, "esky-wrap"):
		add("no container runs anything under esky: write command: [/store/esky-wrap, run, --, PROGRAM]")
	case run != "" && !strings.Contains(run, "exec "):
		add("the shell is the container's first process, and nothing else gets SIGTERM: write command: [/store/esky-wrap, run, --, …], or exec esky-wrap run")
	}
	grace, passed := graceLine.FindStringSubmatch(text), graceValue.FindStringSubmatch(text)
	switch {
	case grace == nil:
		add("30 s lie between SIGTERM and the kill: set terminationGracePeriodSeconds to twice what saving takes, and %s to the same", graceVar)
	case passed == nil:
		add("esky takes the grace for 30 s: set %s to \"%s\"", graceVar, grace[1])
	case passed[1] != grace[1]:
		add("%s is %s, and terminationGracePeriodSeconds is %s: write the same", graceVar, passed[1], grace[1])
	}
	if !strings.Contains(text, jobVar) {
		add("esky is not told which Job the pod is of: set %s from metadata.labels['batch.kubernetes.io/job-name']", jobVar)
	}
	if !leaving.MatchString(text) {
		add("each time the job leaves with an image counts as a failure of backoffLimit: add a podFailurePolicy that ignores status %d", sched.ExitAgain)
	}
	if !strings.Contains(text, "restartPolicy: Never") {
		add("a podFailurePolicy needs restartPolicy: Never")
	}
	if !strings.Contains(text, "ESKY_STORE") && !strings.Contains(text, "--store") || !strings.Contains(text, "persistentVolumeClaim") {
		add("the images go with the pod: mount a persistentVolumeClaim, and set ESKY_STORE to a directory on it")
	}
	if strings.Contains(text, "nvidia.com/gpu") || strings.Contains(text, "amd.com/gpu") {
		told = append(told, sched.OnGPU("a gpu among the resources"))
	}
	return told, true
}
