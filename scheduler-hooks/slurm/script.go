// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"fmt"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#SBATCH" }

// Wraps implements sched.Wrapper: by the SPANK plugin or job_submit.lua.
func (Adapter) Wraps(s sched.Script) bool {
	return s.Has("--esky") || isOurs(s.Value("--comment")) && s.Has("--comment")
}

// Read implements sched.ScriptReader. What a partition or the site sets instead
// of the script is not known here.
func (a Adapter) Read(s sched.Script) []string {
	var told []string
	add := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	if len(s.Late) > 0 {
		add("sbatch reads no directives below the first command, and so ignores %s: move them up", strings.Join(s.Late, " "))
		s.Options = s.Options[:len(s.Options)-len(s.Late)]
	}
	told = append(told, a.readSteps(s)...)
	switch signal := s.Value("--signal"); {
	case signal == "":
		add("esky leaves by its own clock before the time limit; what ends the job earlier gives it KillWait (30 s by default) from SIGTERM to SIGKILL")
	case !strings.Contains(strings.SplitN(signal, ":", 2)[0], "B") && !s.Mentions("srun"):
		add("--signal=%s goes to steps of srun only, not to this script: write --signal=B:%s", signal, signal)
	}
	if mode := s.Value("--open-mode"); mode != "append" && mode != "a" {
		add("the output file will be emptied each time the job comes back, unless the site has JobFileAppend=1: add --open-mode=append")
	}
	switch {
	case s.Has("--no-requeue"):
		add("--no-requeue: the job comes back when esky asks for it, but not after a failure of its host: use --requeue")
	case !s.Has("--requeue"):
		add("whether the job comes back after a failure of its host is the site's choice (JobRequeue): add --requeue")
	}
	if s.Value("--time", "-t") == "" {
		add("no --time: the limit of the partition counts, and esky asks Slurm for it when the job starts")
	}
	if host := s.Value("--nodelist", "-w"); host != "" {
		add("the job demands the host %s, so it cannot move to another: drop --nodelist", host)
	}
	return told
}

// readSteps tells what of the job cannot be saved as it is.
func (a Adapter) readSteps(s sched.Script) (told []string) {
	if n := s.Value("--nodes", "-N"); n != "" && n != "1" && n != "1-1" {
		told = append(told, sched.OnSeveralHosts("--nodes="+n, "ask for --nodes=1"))
	}
	for _, gpu := range []string{"--gpus", "-G", "--gpus-per-node", "--gpus-per-task", "--gres"} {
		if v := s.Value(gpu); v != "" && (gpu != "--gres" || strings.Contains(v, "gpu")) {
			told = append(told, sched.OnGPU(gpu+" "+v))
		}
	}
	switch {
	case !s.Mentions("srun "):
	case a.Wraps(s):
		told = append(told, "what srun starts is not saved with the script around it: drop --esky, and write \"srun … esky-wrap run -- PROGRAM\"")
	case !s.Mentions("esky-wrap run"):
		told = append(told, "or, for what srun starts: \"srun … esky-wrap run -- PROGRAM\"")
	}
	return told
}
