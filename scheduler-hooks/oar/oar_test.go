// SPDX-License-Identifier: Apache-2.0

package oar

import (
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

// oarstat is the beginning of an answer of OAR 2.5.9.
const oarstat = `Job_Id: 9
    job_array_id = 9
    name = 
    owner = esk
    state = Running
    wanted_resources = -l "{type = 'default'}/network_address=1,walltime=0:6:10" 
    types = besteffort, idempotent
    command = ./job.sh
`

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
		"which OAR says will come back": {
			Env:     map[string]string{"OAR_JOB_ID": "9", "ESKY_RESUBMIT": "x"},
			Answers: map[string]string{"oarstat -f -j 9": oarstat},
			Job:     sched.Job{Scheduler: "oar", ID: "9", Key: key, Attempt: 7},
			Leave:   sched.Action{Exit: 99},
		},
		"which will not": {
			Env:     map[string]string{"OAR_JOB_ID": "9", "ESKY_RESUBMIT": "x"},
			Answers: map[string]string{"oarstat -f -j 9": strings.Replace(oarstat, "besteffort, idempotent", "besteffort", 1)},
			Job: sched.Job{
				Scheduler: "oar", ID: "9", Key: key, Attempt: 7, NoReturn: "it is not of type idempotent (oarsub -t idempotent)",
			},
			Leave: sched.Action{Exit: 99},
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
		"#OAR -l /nodes=1\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                              {"idempotent", "--checkpoint", "--name"},
		"#OAR -l /nodes=2/gpu=1 -t idempotent --checkpoint 60\nexport ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n": {"/nodes=2", "GPU"},
	})
}
