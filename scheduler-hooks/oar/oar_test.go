// SPDX-License-Identifier: Apache-2.0

package oar

import (
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

func TestAdapter(t *testing.T) {
	key := sched.CommandKey([]string{"./prog", "1"}, "/work")
	const advice = "-t idempotent"
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"a job": {
			Env: map[string]string{"OAR_JOB_ID": "9", "OAR_JOB_WALLTIME": "2:00:00"},
			Job: sched.Job{
				Scheduler: "oar", ID: "9", Key: key, Attempt: 7, End: schedtest.Began.Add(2 * time.Hour),
			},
			Warning: advice, Leave: sched.Action{Exit: 99},
		},
		"of an array, in an old version": {
			Env:     map[string]string{"OAR_JOBID": "11", "OAR_ARRAY_INDEX": "3"},
			Job:     sched.Job{Scheduler: "oar", ID: "11", Key: key + ".3", Attempt: 7},
			Warning: advice, Leave: sched.Action{Exit: 99},
		},
	})
}

func TestScript(t *testing.T) {
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#OAR -l /nodes=1\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n": {"idempotent", "--checkpoint", "--name"},
	})
}
