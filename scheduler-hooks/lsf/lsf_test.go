// SPDX-License-Identifier: Apache-2.0

package lsf

import (
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

func TestAdapter(t *testing.T) {
	requeue := func(id string) sched.Action {
		return sched.Action{Commands: [][]string{{"brequeue", id}}, Exit: 75, WaitForKill: true}
	}
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"a job": {
			Env:   map[string]string{"LSB_JOBID": "40", "LSB_JOBINDEX": "0", "LSB_HOSTS": "a"},
			Job:   sched.Job{Scheduler: "lsf", ID: "40", Key: "lsf-40", Sole: true, Attempt: 7, Grace: 20 * time.Second},
			Leave: requeue("40"),
		},
		"of an array, one command of several": {
			Env: map[string]string{"LSB_JOBID": "40", "LSB_JOBINDEX": "2"}, Nested: true,
			Job: sched.Job{
				Scheduler: "lsf", ID: "40[2]", Key: "lsf-40_2-" + sched.CommandHash([]string{"./prog", "1"}, "/work"), Attempt: 7,
				Grace: 20 * time.Second,
			},
			Leave: requeue("40[2]"),
		},
		"parallel": {
			Env:     map[string]string{"LSB_JOBID": "40", "LSB_HOSTS": "a a"},
			Job:     sched.Job{Scheduler: "lsf", ID: "40", Key: "lsf-40", Sole: true, Attempt: 7},
			Warning: "--every", Leave: requeue("40"),
		},
		"interactive": {
			Env: map[string]string{"LSB_JOBID": "40", "LSB_INTERACTIVE": "Y"},
			Job: sched.Job{
				Scheduler: "lsf", ID: "40", Key: "lsf-40", Sole: true, Attempt: 7, Grace: 20 * time.Second, NoReturn: "it is an interactive job",
			},
			Leave: sched.Action{Exit: 75},
		},
	})
}

func TestScript(t *testing.T) {
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#BSUB -W 10 -oo out -Is\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n": {"-wa", "add -r", "interactive", "-oo"},
		"#BSUB -W 10 -wa 'USR1' -wt '5' -r -n 8 -gpu num=1 -k \"/c method=blcr\" -J x[1-9]\nexport ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n": {
			"one name", "-n 8", "LSB_USE_SEQUENTIAL", "GPU", "method=esky",
		},
		"#BSUB -W 10 -wa USR1 -wt 5 -r -n 8 -R \"span[hosts=1]\" -k \"/c method=esky\" -eo e\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n": {"LSB_USE_SEQUENTIAL", "-eo"},
	})
}
