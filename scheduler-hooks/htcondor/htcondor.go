// SPDX-License-Identifier: Apache-2.0

// Package htcondor is what esky knows about HTCondor, as its manual has it
// ("Self-Checkpointing Applications", "Vanilla Universe", job ClassAd
// attributes).
//
//   - An evicted job of the vanilla universe goes back to the queue under the
//     same id by itself and is matched with any host.
//   - checkpoint_exit_code says which exit status means "checkpointed":
//     transfer_checkpoint_files are then kept, and put back wherever the job is
//     started next. That is how the store travels where hosts share nothing.
//   - At an eviction the job's first process gets kill_sig (SIGTERM), and SIGKILL
//     job_max_vacate_time later, which the host's MachineMaxVacateTime (600 s)
//     bounds.
package htcondor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// exitCheckpointed is the status that the submit file names.
const exitCheckpointed = 85

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "htcondor" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("_CONDOR_JOB_AD") != "" }

// Describe implements sched.Adapter: from the job's ClassAd, which the starter
// leaves in the scratch directory.
func (Adapter) Describe(_ context.Context, f sched.Facts) (sched.Job, error) {
	text, err := f.Read(f.Env("_CONDOR_JOB_AD"))
	if err != nil {
		return sched.Job{}, fmt.Errorf("read the job's ClassAd: %w", err)
	}
	ad := parseAd(text)
	if ad["ClusterId"] == "" || ad["ProcId"] == "" {
		return sched.Job{}, fmt.Errorf("%s has no ClusterId and ProcId", f.Env("_CONDOR_JOB_AD"))
	}
	j := f.Named("condor", ad["ClusterId"]+"."+ad["ProcId"])
	j.Scheduler = "htcondor"
	if starts, ok := ad.number("NumJobStarts"); ok {
		j.Attempt = starts
	}
	if s, ok := ad.number("JobMaxVacateTime"); ok {
		j.Grace = time.Duration(s) * time.Second
	}
	// The clock of allowed_execute_duration begins anew with each checkpoint,
	// that of allowed_job_duration does not.
	if s, ok := ad.number("AllowedExecuteDuration"); ok && !f.Began.IsZero() {
		j.End = f.Began.Add(time.Duration(s) * time.Second)
	}
	j.Warnings = warnings(f, ad)
	return j, nil
}

func warnings(f sched.Facts, ad classAd) []string {
	var w []string
	if code, ok := ad.number("SuccessCheckpointExitCode"); !ok || code != exitCheckpointed {
		w = append(w, "the submit file lacks \"checkpoint_exit_code = 85\": HTCondor takes a checkpointed job for one that has failed")
	}
	scratch, store := f.Env("_CONDOR_SCRATCH_DIR"), f.Env("ESKY_STORE")
	here := store == "" || !strings.HasPrefix(store, "/") || strings.HasPrefix(store, scratch+"/")
	if here && ad["TransferCheckpoint"] == "" {
		w = append(w, "the store is in the job's scratch directory, which goes with the job: name it in transfer_checkpoint_files")
	}
	return w
}

// Leave implements sched.Adapter.
func (Adapter) Leave(context.Context, sched.Facts, sched.Job) sched.Action {
	return sched.Action{Exit: exitCheckpointed, Note: "HTCondor keeps the image and starts the job again"}
}

// classAd holds the attributes of a job, as they are written.
type classAd map[string]string

// parseAd reads lines "Name = value"; strings lose their quotes.
func parseAd(text string) classAd {
	ad := classAd{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if s, err := strconv.Unquote(value); err == nil {
			value = s
		}
		ad[strings.TrimSpace(name)] = value
	}
	return ad
}

func (ad classAd) number(name string) (int, bool) {
	n, err := strconv.Atoi(ad[name])
	return n, err == nil
}
