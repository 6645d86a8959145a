// SPDX-License-Identifier: Apache-2.0

package htcondor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

var (
	setting   = regexp.MustCompile(`(?m)^[ \t]*\+?([A-Za-z_]+)[ \t]*=[ \t]*(.*?)[ \t]*$`)
	queueLine = regexp.MustCompile(`(?mi)^[ \t]*queue\b`)
	storeFlag = regexp.MustCompile(`--store[= ]([^\s"']+)`)
)

// ReadFile implements sched.FileReader: a submit file ends with "queue".
func (Adapter) ReadFile(text string) (told []string, ok bool) {
	set := map[string]string{}
	for _, m := range setting.FindAllStringSubmatch(strings.ReplaceAll(text, "\\\n", " "), -1) {
		set[strings.ToLower(m[1])] = m[2]
	}
	if set["executable"] == "" || !queueLine.MatchString(text) {
		return nil, false
	}
	add := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	if !strings.Contains(set["executable"]+set["arguments"], "esky-wrap") {
		add("the job does not run under esky: write executable = …/esky-wrap and arguments = \"run --store .esky -- PROGRAM\"")
	}
	if set["checkpoint_exit_code"] != fmt.Sprint(exitCheckpointed) {
		add("HTCondor takes a checkpointed job for one that has ended: add checkpoint_exit_code = %d", exitCheckpointed)
	}
	told = append(told, travels(set)...)
	if strings.EqualFold(set["when_to_transfer_output"], "ON_EXIT_OR_EVICT") {
		add("ON_EXIT_OR_EVICT puts what was half written at an eviction in place of what was good: write when_to_transfer_output = ON_EXIT")
	}
	if set["job_max_vacate_time"] == "" {
		add("how long saving may take at an eviction is the host's choice: add job_max_vacate_time = SECONDS")
	}
	if set["on_exit_hold"] == "" {
		add("a job that cannot be resumed would end: add on_exit_hold = ExitCode == %d", sched.ExitCannot)
	}
	if gpus := set["request_gpus"]; gpus != "" && gpus != "0" {
		told = append(told, sched.OnGPU("request_gpus = "+gpus))
	}
	return told, true
}

// travels tells of files that a job needs and does not take along.
func travels(set map[string]string) (told []string) {
	along := strings.FieldsFunc(set["transfer_checkpoint_files"], func(r rune) bool { return r == ',' || r == ' ' })
	store := ".esky"
	if m := storeFlag.FindStringSubmatch(set["arguments"]); m != nil {
		store = m[1]
	} else if strings.Contains(set["environment"], "ESKY_STORE=/") {
		return nil
	}
	if strings.HasPrefix(store, "/") {
		return nil
	}
	for what, name := range map[string]string{"the images": store, "the output": set["output"]} {
		if name != "" && !slices.Contains(along, name) {
			told = append(told, fmt.Sprintf("%s in %s would be lost when the job comes back: name it in transfer_checkpoint_files", what, name))
		}
	}
	slices.Sort(told)
	return told
}
