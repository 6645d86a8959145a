// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is what esky knows about Jobs of Kubernetes, and about
// Kueue, which suspends them.
//
//   - A pod that has to go gets SIGTERM at its first process and SIGKILL after
//     terminationGracePeriodSeconds. Its Job makes another pod of the same
//     description, on any node: so esky-wrap is the container's first process and
//     the store is on a volume.
//   - Nothing in the pod tells which Job it is of; the manifest passes that on by
//     the variables below (downward API).
package kubernetes

import (
	"context"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func init() { sched.Register(Adapter{}) }

// What the manifest has to pass on.
const (
	jobVar   = "ESKY_K8S_JOB"   // metadata.labels['batch.kubernetes.io/job-name']
	graceVar = "ESKY_K8S_GRACE" // the number of terminationGracePeriodSeconds
)

// Adapter implements sched.Adapter.
type Adapter struct{ sched.Plain }

// Name implements sched.Adapter.
func (Adapter) Name() string { return "kubernetes" }

// Detect implements sched.Adapter.
func (Adapter) Detect(env sched.Env) bool { return env("KUBERNETES_SERVICE_HOST") != "" }

// Describe implements sched.Adapter.
func (Adapter) Describe(_ context.Context, f sched.Facts) (sched.Job, error) {
	name := f.Env(jobVar)
	if name == "" {
		j := f.Renamed("k8s", f.Env("HOSTNAME"))
		j.Scheduler = "kubernetes"
		j.Warnings = append(j.Warnings, "the pod's manifest does not say which Job it is of: pass "+jobVar)
		return j, nil
	}
	if index := f.Env("JOB_COMPLETION_INDEX"); index != "" {
		name += "-" + index
	}
	j := f.Named("k8s", name)
	j.Scheduler, j.Leave = "kubernetes", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}
	if grace, ok := sched.Clock(f.Env(graceVar)); ok {
		j.Grace = grace
	} else {
		j.Grace = 30 * time.Second // the default of terminationGracePeriodSeconds
	}
	return j, nil
}

// Leave implements sched.Adapter: podFailurePolicy of the manifest does not
// count this status as a failure.
func (Adapter) Leave(context.Context, sched.Facts, sched.Job) sched.Action {
	return sched.Action{Exit: sched.ExitAgain, Note: "the Job makes another pod, which goes on"}
}
