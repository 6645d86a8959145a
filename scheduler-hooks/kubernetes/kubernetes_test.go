// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

func TestAdapter(t *testing.T) {
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"a job": {
			Env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "ESKY_K8S_JOB": "fold", "ESKY_K8S_GRACE": "120", "JOB_COMPLETION_INDEX": "4"},
			Job: sched.Job{Scheduler: "kubernetes", ID: "fold-4", Key: "k8s-fold-4", Sole: true, Attempt: 7, Grace: 2 * time.Minute},

			Leave: sched.Action{Exit: 75},
		},
		"with the default of the grace": {
			Env:   map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "ESKY_K8S_JOB": "fold"},
			Job:   sched.Job{Scheduler: "kubernetes", ID: "fold", Key: "k8s-fold", Sole: true, Attempt: 7, Grace: 30 * time.Second},
			Leave: sched.Action{Exit: 75},
		},
		"a pod of nobody": {
			Env:     map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "fold-x7k2p"},
			Job:     sched.Job{Scheduler: "kubernetes", ID: "fold-x7k2p", Key: sched.CommandKey([]string{"./prog", "1"}, "/work"), Attempt: 7},
			Warning: "ESKY_K8S_JOB", Leave: sched.Action{Exit: 75},
		},
	})
}

// What the manifest says twice is the same, and what it has to say is there.
func TestManifest(t *testing.T) {
	text, err := os.ReadFile("job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"terminationGracePeriodSeconds: 120\n", `{name: ` + graceVar + `, value: "120"}`, "name: " + jobVar + "\n", "batch.kubernetes.io/job-name",
		fmt.Sprintf("values: [%d]", sched.ExitAgain), fmt.Sprintf("values: [%d]", sched.ExitCannot), "/esky-wrap, run, --, ", "restartPolicy: Never",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %q", line)
		}
	}
}
