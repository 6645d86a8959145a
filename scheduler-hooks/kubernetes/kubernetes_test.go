// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
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

func TestManifests(t *testing.T) {
	own, err := os.ReadFile("job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	edited := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(string(own)) }
	schedtest.Files(t, Adapter{}, "job.yaml", map[string][]string{
		"apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec:\n      containers:\n        - command: [./program]\n": {
			"no container", "30 s", jobVar, "podFailurePolicy that", "restartPolicy", "persistentVolumeClaim",
		},
		edited("[/store/esky-wrap, run, --, ./program, args]", `[sh, -c, "/store/esky-wrap run -- ./program"]`):      {"the shell is the container's first"},
		edited("[/store/esky-wrap, run, --, ./program, args]", `[sh, -c, "exec /store/esky-wrap run -- ./program"]`): {},
		edited("Seconds: 120", "Seconds: 300"): {graceVar + " is 120"},
		edited(graceVar, "OTHER"):              {graceVar + " to \"120\""},
		edited("[75]", "[175]"):                {"podFailurePolicy"},
		edited("volumeMounts", "resources: {limits: {nvidia.com/gpu: 1}}\n          volumeMounts"): {"GPU"},
	})
}
