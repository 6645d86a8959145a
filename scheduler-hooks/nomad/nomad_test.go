// SPDX-License-Identifier: Apache-2.0

package nomad

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

func TestAdapter(t *testing.T) {
	env := map[string]string{
		"NOMAD_ALLOC_ID": "1b2c", "NOMAD_JOB_ID": "fold", "NOMAD_GROUP_NAME": "g", "NOMAD_TASK_NAME": "t", "NOMAD_ALLOC_INDEX": "2",
		"ESKY_NOMAD_GRACE": "90",
	}
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"a task": {
			Env:   env,
			Job:   sched.Job{Scheduler: "nomad", ID: "fold.g.t.2", Key: "nomad-fold.g.t.2", Sole: true, Attempt: 7, Grace: 90 * time.Second},
			Leave: sched.Action{Exit: 75},
		},
		"dispatched, with the default of the grace": {
			Env: map[string]string{"NOMAD_ALLOC_ID": "1b2c", "NOMAD_JOB_ID": "fold/dispatch-1", "NOMAD_GROUP_NAME": "g", "NOMAD_TASK_NAME": "t", "NOMAD_ALLOC_INDEX": "0"},
			Job: sched.Job{
				Scheduler: "nomad", ID: "fold/dispatch-1.g.t", Sole: true, Attempt: 7,
				Key: "nomad-fold_dispatch-1.g.t-" + sched.CommandHash([]string{"fold/dispatch-1.g.t"}, ""),
			},
			Warning: "ESKY_NOMAD_GRACE", Leave: sched.Action{Exit: 75},
		},
	})
}

// What the job's file says twice is the same, and what it has to say is there.
func TestJobFile(t *testing.T) {
	text, err := os.ReadFile("job.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(string(text)), " ")
	for _, part := range []string{
		`kill_timeout = "120s"`, graceVar + ` = "120"`, `kill_signal = "SIGTERM"`, `args = ["run", "--", `, "ESKY_STORE = ", "restart {", "reschedule {",
	} {
		if !strings.Contains(words, part) {
			t.Errorf("no %q", part)
		}
	}
}
