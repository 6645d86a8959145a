// SPDX-License-Identifier: Apache-2.0

package flux

import (
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

func TestAdapter(t *testing.T) {
	job := sched.Job{
		Scheduler: "flux", ID: "f2a", Key: sched.CommandKey([]string{"./prog", "1"}, "/work"), Attempt: 7,
		Grace: 5 * time.Second, NoReturn: "Flux does not start a job again",
	}
	limited := job
	limited.End = schedtest.Now.Add(90*time.Second + 500*time.Millisecond)
	const again = "flux batch --dependency=afterany:f2a job.sh"
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"with a limit, and a successor": {
			Env:     map[string]string{"FLUX_JOB_ID": "f2a", "ESKY_RESUBMIT": again},
			Answers: map[string]string{"flux job timeleft": "90.5\n"},
			Job:     limited, Leave: sched.Action{Commands: [][]string{{"/bin/sh", "-c", again}}, Exit: 75},
		},
		"without a limit": {
			Env: map[string]string{"FLUX_JOB_ID": "f2a"}, Answers: map[string]string{"flux job timeleft": "infinity\n"},
			Job: job, Warning: "--name", Leave: sched.Action{Exit: 75},
		},
		"no answer": {
			Env: map[string]string{"FLUX_JOB_ID": "f2a", "ESKY_RESUBMIT": again},
			Job: job, Warning: "when the job ends", Leave: sched.Action{Commands: [][]string{{"/bin/sh", "-c", again}}, Exit: 75},
		},
	})
}

func TestScript(t *testing.T) {
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#flux: -N1\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                                                                {"ESKY_RESUBMIT", "--name", "--signal"},
		"# flux: --nodes=2 --gpus-per-node=1\n# flux: --signal=SIGUSR1@5m\nexport ESKY_RESUBMIT=x ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n": {"--nodes=2", "GPU"},
	})
}
