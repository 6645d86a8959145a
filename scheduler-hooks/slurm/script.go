// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// Directive implements sched.ScriptReader.
func (Adapter) Directive() string { return "#SBATCH" }

// Read implements sched.ScriptReader. What a partition or the site sets instead
// of the script is not known here.
func (Adapter) Read(s sched.Script) []string {
	var told []string
	add := func(text string) { told = append(told, text) }
	switch signal := s.Value("--signal"); {
	case signal == "":
		add("esky leaves by its own clock before the time limit; what ends the job earlier gives it KillWait (30 s by default) from SIGTERM to SIGKILL")
	case !strings.Contains(strings.SplitN(signal, ":", 2)[0], "B") && !s.Mentions("srun"):
		add("--signal=" + signal + " goes to steps of srun only, not to this script: write --signal=B:" + signal)
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
	if !s.Has("--time", "-t") && s.Value("-t") == "" {
		add("no --time: the limit of the partition counts, and esky asks Slurm for it when the job starts")
	}
	if host := s.Value("--nodelist", "-w"); host != "" {
		add("the job demands the host " + host + ", so it cannot move to another: drop --nodelist")
	}
	return told
}
