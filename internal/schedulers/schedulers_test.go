// SPDX-License-Identifier: Apache-2.0

package schedulers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
)

// TestConformance runs the suite for schedulers with each batch system, none of whose
// commands are there.
func TestConformance(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	ad := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "_CONDOR_JOB_AD=" + path
	}
	const (
		nomad = "NOMAD_JOB_ID=fold"
		group = "NOMAD_GROUP_NAME=g"
		task  = "NOMAD_TASK_NAME=t"
		sge   = "SGE_TASK_ID=undefined"
	)
	for name, c := range map[string]struct {
		env   [][]string
		other []string // nil: a successor has another number, so its command line is all that tells a job
	}{
		"flux": {[][]string{{"FLUX_JOB_ID=f2a", "ESKY_RESUBMIT=flux batch job.sh"}, {"FLUX_JOB_ID=f2a", "ESKY_RESUBMIT=flux batch job.sh"}}, nil},
		"gridengine": {
			[][]string{{"JOB_ID=55", sge, "ENVIRONMENT=BATCH", "RESTARTED=0"}, {"JOB_ID=55", sge, "ENVIRONMENT=BATCH", "RESTARTED=1"}},
			[]string{"JOB_ID=55", "SGE_TASK_ID=3", "ENVIRONMENT=BATCH"},
		},
		"htcondor": {
			[][]string{{ad("first", "ClusterId = 7\nProcId = 0\nNumJobStarts = 0\n")}, {ad("second", "ClusterId = 7\nProcId = 0\nNumJobStarts = 1\n")}},
			[]string{ad("other", "ClusterId = 7\nProcId = 1\nNumJobStarts = 0\n")},
		},
		"kubernetes": {
			[][]string{{"KUBERNETES_SERVICE_HOST=10.0.0.1", "ESKY_K8S_JOB=fold", "HOSTNAME=fold-x"}, {"KUBERNETES_SERVICE_HOST=10.0.0.1", "ESKY_K8S_JOB=fold", "HOSTNAME=fold-y"}},
			[]string{"KUBERNETES_SERVICE_HOST=10.0.0.1", "ESKY_K8S_JOB=other"},
		},
		"lsf": {
			[][]string{{"LSB_JOBID=9", "LSB_JOBINDEX=0"}, {"LSB_JOBID=9", "LSB_JOBINDEX=0", "LSB_RESTART=Y"}},
			[]string{"LSB_JOBID=9", "LSB_JOBINDEX=2"},
		},
		"nomad": {
			[][]string{{"NOMAD_ALLOC_ID=1b2c", nomad, group, task, "NOMAD_ALLOC_INDEX=0"}, {"NOMAD_ALLOC_ID=9f00", nomad, group, task, "NOMAD_ALLOC_INDEX=0"}},
			[]string{"NOMAD_ALLOC_ID=1b2d", nomad, group, task, "NOMAD_ALLOC_INDEX=1"},
		},
		"oar":   {[][]string{{"OAR_JOB_ID=9", "ESKY_RESUBMIT=x"}, {"OAR_JOB_ID=9", "ESKY_RESUBMIT=x"}}, nil},
		"pbs":   {[][]string{{"PBS_JOBID=12.server", "ESKY_PBS_RERUN=1"}, {"PBS_JOBID=12.server", "ESKY_PBS_RERUN=1"}}, []string{"PBS_JOBID=12[3].server"}},
		"slurm": {[][]string{{"SLURM_JOB_ID=12", "SLURM_TASK_PID=100"}, {"SLURM_JOB_ID=12", "SLURM_TASK_PID=100", "SLURM_RESTART_COUNT=1"}}, []string{"SLURM_JOB_ID=13"}},
	} {
		t.Run(name, func(t *testing.T) {
			plugintest.Scheduler(t, plugintest.SchedulerCase{
				Open: func(*testing.T) plugin.Scheduler { return New("test") },
				Env:  c.env, Other: c.other,
			})
		})
	}
}
