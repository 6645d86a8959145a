// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

// What qstat of 8.1.9 prints, less the lines that nobody reads.
const qstat = `==============================================================
job_number:                 55
owner:                      me
hard resource_list:         h_rt=3600,s_rt=3500
notify:                     TRUE
job_name:                   job.sh
env_list:                   A=b
context:                    notify: FALSE
`

// What "qconf -sc" prints, less most lines.
const complexes = "#name shortcut type relop requestable consumable default urgency\n" +
	"esky_host           esky_host  RESTRING    ==      YES         NO         NONE     0\n"

// Notices reach every process of a job.
var notices = []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU}

func TestAdapter(t *testing.T) {
	leave := sched.Action{Exit: 99}
	env := map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "undefined", "ENVIRONMENT": "BATCH"}
	task := map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "3", "ENVIRONMENT": "BATCH"}
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"a job": {
			Env: env, Answers: map[string]string{"qstat -j 55": qstat}, Leave: leave,
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices,
				Grace: time.Minute, End: schedtest.Began.Add(3500 * time.Second),
			},
		},
		"in a queue with another notice": {
			Env:     map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "undefined", "ENVIRONMENT": "BATCH", "QUEUE": "batch.q"},
			Answers: map[string]string{"qstat -j 55": "notify: TRUE\n", "qconf -sq batch.q": "qname   batch.q\nnotify  00:00:10\n"},
			Job:     sched.Job{Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices, Grace: 10 * time.Second},
			Leave:   leave,
		},
		"in an environment of somebody else's": {
			Env: map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "undefined", "ENVIRONMENT": "BATCH", "SGE_CKPT_ENV": "blcr"},
			Answers: map[string]string{
				"qstat -j 55": "job_number: 55\n", "qconf -sckpt blcr": "ckpt_name          blcr\ninterface          userdefined\nmigr_command       none\n",
			},
			Job:   sched.Job{Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices},
			Leave: leave, Warning: "blcr is not esky's",
		},
		"a task of an array, that is not warned": {
			Env: task, Answers: map[string]string{"qstat -j 55": "job_number: 55\nhard resource_list: h_rt=60\n"}, Leave: leave,
			Job:     sched.Job{Scheduler: "gridengine", ID: "55.3", Key: "sge-55.3", Sole: true, Attempt: 7, Spread: notices, End: schedtest.Began.Add(time.Minute)},
			Warning: "-notify",
		},
		"where hosts have labels": {
			Env: env, Answers: map[string]string{"qstat -j 55": qstat, "qconf -sc": complexes}, Leave: leave,
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices,
				Grace: time.Minute, End: schedtest.Began.Add(3500 * time.Second),
				Confine: [][]string{{"qalter", "-l", "esky_host=kind-1,h_rt=3600,s_rt=3500", "55"}},
			},
		},
		"where the user has chosen one": {
			Env: env, Leave: leave, Answers: map[string]string{
				"qstat -j 55": "hard resource_list: esky_host=kind-*\nnotify: TRUE\n", "qconf -sc": complexes,
			},
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices, Grace: time.Minute,
			},
		},
		"one that was sent away from other hosts": {
			Env: env, Leave: leave, Answers: map[string]string{
				"qstat -j 55": "hard resource_list: hostname=!n1\nnotify: TRUE\ncontext: esky_asks=hostname,esky_wrong_hosts=1\n", "qconf -sc": complexes,
			},
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices, Grace: time.Minute,
				Confine: [][]string{{"qalter", "-dc", "esky_wrong_hosts", "55"}, {"qalter", "-l", "esky_host=kind-1,hostname=!n1", "55"}},
			},
		},
		"a task that was": {
			Env: task, Leave: leave, Answers: map[string]string{
				"qstat -j 55": "hard resource_list: h_rt=60,hostname=((a)&!b)&!n1&!n2,esky_host=kind-1\nnotify: TRUE\n" +
					"context: mine=1,esky_asks=esky_host+hostname,esky_wrong_hosts_3=2\n", "qconf -sc": complexes,
			},
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55.3", Key: "sge-55.3", Sole: true, Attempt: 7, Spread: notices, Grace: time.Minute,
				End:     schedtest.Began.Add(time.Minute),
				Confine: [][]string{{"qalter", "-dc", "esky_wrong_hosts_3,esky_asks", "-l", "h_rt=60,hostname=(a)&!b", "55"}},
			},
		},
		"a task where another was": {
			Env: task, Leave: leave, Answers: map[string]string{
				"qstat -j 55": "hard resource_list: hostname=!n1\nnotify: TRUE\ncontext: esky_asks=hostname,esky_wrong_hosts_2=1\n", "qconf -sc": complexes,
			},
			Job: sched.Job{Scheduler: "gridengine", ID: "55.3", Key: "sge-55.3", Sole: true, Attempt: 7, Spread: notices, Grace: time.Minute},
		},
		"a task where hosts have labels": {
			Env: task, Leave: leave, Answers: map[string]string{"qstat -j 55": "notify: TRUE\n", "qconf -sc": complexes},
			Job: sched.Job{
				Scheduler: "gridengine", ID: "55.3", Key: "sge-55.3", Sole: true, Attempt: 7, Spread: notices, Grace: time.Minute,
			},
		},
		"a host that may not ask": {
			Env: env, Leave: leave, Job: sched.Job{Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices}, Warning: "qstat",
		},
		"qrsh": {
			Env:     map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "undefined", "ENVIRONMENT": "QRSH"},
			Leave:   sched.Action{Exit: 75},
			Job:     sched.Job{Scheduler: "gridengine", ID: "55", Key: "sge-55", Sole: true, Attempt: 7, Spread: notices, NoReturn: "it is an interactive job"},
			Warning: "qstat",
		},
	})
}

func TestForecastInAnEnvironment(t *testing.T) {
	env := map[string]string{"SGE_CKPT_ENV": "esky"}
	for shown, ours := range map[string]bool{"migr_command       /opt/esky/bin/esky-hook ge-migrate $job_pid\n": true, "migr_command       none\n": false} {
		o := Adapter{}.Forecast(schedtest.Case{Env: env, Answers: map[string]string{"qconf -sckpt esky": shown}}.Facts(), sched.Job{})
		if strings.Contains(o.Warned, "it moves") != ours || (len(o.Admin) == 0) != ours {
			t.Errorf("%s: %+v", shown, o)
		}
	}
}

func TestScript(t *testing.T) {
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#$ -cwd -r n\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                            {"-notify", "h_rt", "-r n"},
		"#$ -ckpt esky -l h_rt=60\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                {"qdel and the end of h_rt give"},
		"#$ -pe mpi 64 -l h_rt=60,gpu=1 -notify -ckpt blcr -r no\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n": {"-pe mpi 64", "GPU", "-ckpt blcr", "-r n"},
		"#$ -l h_rt=60 -notify -t 1-10\nexport ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n":                  {"one name"},
		"#$ -l h_rt=60 -notify -t 1-10\nexport ESKY_STORE=/s\nexec esky-wrap run --name x.$SGE_TASK_ID -- ./p\n":     {},
	})
}
