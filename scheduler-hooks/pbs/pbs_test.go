// SPDX-License-Identifier: Apache-2.0

package pbs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

const qstat = `Job Id: 12.server
    Job_Name = job.sh
    Rerunable = True
    Resource_List.walltime = 01:00:00
    Variable_List = PBS_O_HOME=/home/me,
\tResource_List.walltime = 9
`

func TestAdapter(t *testing.T) {
	const site = "this site has no esky hook, and PBS lets no user requeue"
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"where the site has the hook": {
			Env:     map[string]string{"PBS_JOBID": "12.server", "ESKY_PBS_RERUN": "1"},
			Answers: map[string]string{"qstat -f 12.server": qstat},
			Job: sched.Job{
				Scheduler: "pbs", ID: "12.server", Key: "pbs-12", Sole: true, Attempt: 7,
				Grace: 10 * time.Second, End: schedtest.Began.Add(time.Hour),
			},
			Leave: sched.Action{Exit: 99},
		},
		"in a queue that grants more": {
			Env: map[string]string{"PBS_JOBID": "12.server", "ESKY_PBS_RERUN": "1", "PBS_QUEUE": "low", "PBS_WALLTIME": "600"},
			Answers: map[string]string{
				"qstat -Q -f low": "Queue: low\n    queue_type = Execution\n    Priority = 5\n    kill_delay = 600\n    started = True\n",
			},
			Job: sched.Job{
				Scheduler: "pbs", ID: "12.server", Key: "pbs-12", Sole: true, Attempt: 7,
				Grace: 10 * time.Minute, End: schedtest.Began.Add(10 * time.Minute),
			},
			Leave: sched.Action{Exit: 99},
		},
		"where it has not, with a successor, under Torque": {
			Env: map[string]string{"PBS_JOBID": "12[3].server", "PBS_WALLTIME": "600", "ESKY_RESUBMIT": "qsub job.sh"},
			Job: sched.Job{
				Scheduler: "pbs", ID: "12[3].server", Key: "pbs-12_3", Sole: true, Attempt: 7,
				Grace: 10 * time.Second, End: schedtest.Began.Add(10 * time.Minute), NoReturn: site,
			},
			Warning: "ESKY_RESUBMIT", Leave: sched.Action{Commands: [][]string{{"/bin/sh", "-c", "qsub job.sh"}}, Exit: 75},
		},
		"no answer, interactive": {
			Env: map[string]string{"PBS_JOBID": "12.server", "PBS_ENVIRONMENT": "PBS_INTERACTIVE", "ESKY_PBS_RERUN": "1"},
			Job: sched.Job{
				Scheduler: "pbs", ID: "12.server", Key: "pbs-12", Sole: true, Attempt: 7, Grace: 10 * time.Second, NoReturn: "it is an interactive job",
			},
			Warning: "qstat", Leave: sched.Action{Exit: 75},
		},
	})
}

// stand is a stand-in for the module that PBS gives to its hooks.
const stand = `
import sys, types
pbs = types.ModuleType("pbs")
pbs.EXECJOB_LAUNCH, pbs.EXECJOB_EPILOGUE, pbs.LOG_DEBUG, pbs.LOG_WARNING = 1, 2, 3, 4
class Job:
    id, reruns = "12.server", 0
    def rerun(self): self.reruns += 1
class Event: pass
pbs.logmsg = lambda level, text: None
sys.modules["pbs"] = pbs
def run(type, status, env=None):
    e = Event(); e.type, e.job, e.env = type, Job(), {} if env is None else env
    e.job.Exit_status = status
    pbs.event = lambda: e
    exec(open("esky_rerun.py").read(), {})
    return e
assert run(pbs.EXECJOB_LAUNCH, None).env == {"ESKY_PBS_RERUN": "1"}
assert run(pbs.EXECJOB_EPILOGUE, 99).job.reruns == 1
assert run(pbs.EXECJOB_EPILOGUE, 0).job.reruns == 0
assert run(pbs.EXECJOB_EPILOGUE, -29).job.reruns == 0
run(pbs.EXECJOB_LAUNCH, None, env=()) # cannot be changed: the hook must not fail
`

func TestHook(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if out, err := exec.Command(python, "-c", stand).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// host is a stand-in for a host that starts: what it publishes, by the program
// that the hook is told to ask.
const host = `
import sys, types
pbs = types.ModuleType("pbs")
pbs.LOG_WARNING, said = 4, []
class Vnode:
    def __init__(self): self.resources_available = {}
class Event:
    vnode_list = {"n1": Vnode()}
pbs.event = Event
pbs.get_local_nodename = lambda: "n1"
pbs.logmsg = lambda level, text: said.append(text)
sys.modules["pbs"] = pbs
text = open("esky_label.py").read().replace("/usr/local/bin/esky-wrap", sys.argv[1])
exec(text, {})
print(Event.vnode_list["n1"].resources_available, said)
`

func TestLabelHook(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	for says, want := range map[string]string{
		"#!/bin/sh\necho amd64-3f2a9c01de46 $(test $# = 1 && echo $1 >&2)\n": "{'esky_label': 'amd64-3f2a9c01de46'} []\n",
		"#!/bin/sh\necho 'a b;c'\n":   "{} [\"esky: no label: 'a b;c' is no label\"]\n",
		"#!/bin/sh\necho x; exit 1\n": "{} [",
	} {
		wrap := filepath.Join(t.TempDir(), "esky-wrap")
		if err := os.WriteFile(wrap, []byte(says), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, "-c", host, wrap).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("%q: %v, %s", says, err, out)
		}
	}
}

func TestScript(t *testing.T) {
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#PBS -r n\nexport ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                                                           {"walltime", "ESKY_RESUBMIT", "-r n"},
		"#PBS -l walltime=1:00\nexport ESKY_RESUBMIT='qsub x' ESKY_STORE=/s\nexec esky-wrap run -- ./p\n":                                        {"--name"},
		"#PBS -l select=2:ncpus=8:ngpus=1,walltime=60 -I -J 1-9\nexport ESKY_RESUBMIT=x ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n":     {"one name", "select=2", "GPU", "-I"},
		"#PBS -l nodes=1:ppn=2+1:ppn=4,walltime=60\nexport ESKY_RESUBMIT=x ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n":                  {"nodes=1:ppn=2+1"},
		"#PBS -l select=2:ncpus=8,walltime=60 -l place=pack\nexport ESKY_RESUBMIT=x ESKY_STORE=/s\nexec esky-wrap run --name x -- ./p\n":         {},
		"#PBS -J 1-9 -l nodes=1:ppn=16,walltime=60\nexport ESKY_RESUBMIT=x ESKY_STORE=/s\nexec esky-wrap run --name x.$PBS_ARRAY_INDEX -- ./p\n": {},
	})
}
