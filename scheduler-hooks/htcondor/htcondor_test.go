// SPDX-License-Identifier: Apache-2.0

package htcondor

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

const ad = `ClusterId = 12
ProcId = 3
NumJobStarts = 2
Args = "NumJobStarts = 9"
JobMaxVacateTime = 120
AllowedExecuteDuration = 3600
SuccessCheckpointExitCode = 85
TransferCheckpoint = ".esky"
`

func TestAdapter(t *testing.T) {
	env := map[string]string{"_CONDOR_JOB_AD": "/s/.job.ad", "_CONDOR_SCRATCH_DIR": "/s"}
	job := sched.Job{
		Scheduler: "htcondor", ID: "12.3", Key: "condor-12.3", Sole: true, Attempt: 2,
		Grace: 2 * time.Minute, End: schedtest.Began.Add(time.Hour),
	}
	leave := sched.Action{Exit: 85}
	bare := sched.Job{Scheduler: "htcondor", ID: "12.3", Key: "condor-12.3", Sole: true, Attempt: 7}
	schedtest.Run(t, Adapter{}, map[string]schedtest.Case{
		"self-checkpointing": {Env: env, Files: map[string]string{"/s/.job.ad": ad}, Job: job, Leave: leave},
		"a job that HTCondor would take for failed": {
			Env: env, Files: map[string]string{"/s/.job.ad": "ClusterId = 12\nProcId = 3\nTransferCheckpoint = \".esky\"\n"}, Job: bare, Leave: leave,
			Warning: "checkpoint_exit_code = 85",
		},
		"a store that would be lost": {
			Env: env, Files: map[string]string{"/s/.job.ad": "ClusterId = 12\nProcId = 3\nSuccessCheckpointExitCode = 85\n"}, Job: bare, Leave: leave,
			Warning: "transfer_checkpoint_files",
		},
		"a store elsewhere": {
			Env:   map[string]string{"_CONDOR_JOB_AD": "/s/.job.ad", "_CONDOR_SCRATCH_DIR": "/s", "ESKY_STORE": "/shared/esky"},
			Files: map[string]string{"/s/.job.ad": "ClusterId = 12\nProcId = 3\nSuccessCheckpointExitCode = 85\n"}, Job: bare, Leave: leave,
		},
	})
}

// What the startd reads: attributes, and a dash that ends them.
func TestLabelScript(t *testing.T) {
	text, err := os.ReadFile("esky-label")
	if err != nil {
		t.Fatal(err)
	}
	for says, want := range map[string]string{
		`test "$*" = host-label && echo amd64-3f2a9c01de46`: "EskyLabel = \"amd64-3f2a9c01de46\"\n-\n",
		`echo 'x" || true'`: "",
		`echo x; exit 1`:    "",
		``:                  "",
	} {
		wrap := filepath.Join(t.TempDir(), "esky-wrap")
		if err := os.WriteFile(wrap, []byte("#!/bin/sh\n"+says+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		script := strings.Replace(string(text), "/usr/local/bin/esky-wrap", wrap, 2)
		out, err := exec.Command("sh", "-c", script).Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", says, out, err)
		}
	}
}

func TestNoAd(t *testing.T) {
	for _, text := range []string{"", "ClusterId = 12\n"} {
		c := schedtest.Case{Env: map[string]string{"_CONDOR_JOB_AD": "/ad"}, Files: map[string]string{"/ad": text}}
		if j, err := (Adapter{}).Describe(t.Context(), c.Facts()); err == nil {
			t.Errorf("%q: %+v", text, j)
		}
	}
}

func TestSubmitFiles(t *testing.T) {
	own, err := os.ReadFile("job.sub")
	if err != nil {
		t.Fatal(err)
	}
	edited := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(string(own)) }
	schedtest.Files(t, Adapter{}, "job.sub", map[string][]string{
		"Executable = prog\nArguments = a \\\n b\nOutput = out\nqueue 10\n": {
			"does not run under esky", "checkpoint_exit_code = 85", "the images in .esky", "the output in out", "job_max_vacate_time", "on_exit_hold",
		},
		edited("= 85", "= 99", "ON_EXIT", "ON_EXIT_OR_EVICT", "queue", "request_gpus = 1\nqueue"): {"checkpoint_exit_code = 85", "half written", "GPU"},
		edited("--store .esky", "--store images"):                                                 {"the images in images"},
		edited("--store .esky", "--store /shared/esky", ".esky, out", ""):                         {},
	})
}
