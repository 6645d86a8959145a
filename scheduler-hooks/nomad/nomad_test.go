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

func TestJobFiles(t *testing.T) {
	own, err := os.ReadFile("job.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	edited := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(string(own)) }
	schedtest.Files(t, Adapter{}, "job.nomad.hcl", map[string][]string{
		"job \"x\" {\n group \"g\" {\n task \"t\" {\n driver = \"exec\"\n }\n }\n}\n": {"no task", "batch", "5 s lie", "ESKY_STORE", "reschedule"},
		edited(`"120s"`, `"5m"`):         {graceVar + " is 120"},
		edited(`"120s"`, `"2m"`):         {},
		edited(graceVar, "OTHER"):        {"does not know of kill_timeout"},
		edited("reschedule", "anything"): {"once a day"},
	})
}
