// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

// mostTries is how many hosts an image may turn out not to fit, before the job is
// held: it is the image then, or the program, and not the hosts.
const mostTries = 8

// Elsewhere implements sched.Mover: the job goes back to the queue, with this host
// excluded. It is held while that is done, so that it cannot come back here even if
// we are killed in the middle.
func (Adapter) Elsewhere(ctx context.Context, f sched.Facts, j sched.Job, reason string) (sched.Action, bool) {
	node := f.Env("SLURMD_NODENAME")
	if j.NoReturn == interactive || node == "" {
		return sched.Action{}, false
	}
	rec, err := showJob(ctx, f.Ask, j.ID)
	if err != nil || fate(rec, j.Attempt) != ours {
		return sched.Action{}, false
	}
	excluded, err := hostnames(ctx, f.Ask, rec.text("ExcNodeList"))
	if err != nil {
		return sched.Action{}, false
	}
	excluded = append(excluded, node)
	if len(excluded) > mostTries || !anyLeft(ctx, f.Ask, rec, excluded) {
		return sched.Action{}, false
	}
	a := sched.Action{
		Commands: append(allow(rec["Requeue"] == "0", j.ID),
			append(Adapter{}.Status(j, ourMark+node+": "+reason).Commands,
				[]string{"scontrol", "requeuehold", j.ID},
				[]string{"scontrol", "update", "JobId=" + j.ID, "ExcNodeList=" + strings.Join(excluded, ",")},
				[]string{"scontrol", "release", j.ID})...),
		Settled: []string{pending},
		Exit:    sched.ExitAgain,
		Note:    fmt.Sprintf("job %s is requeued, for another host than %s", j.ID, node),
	}
	if !j.Sole {
		a.Stay = stay
	}
	return a, true
}

// hostnames are the hosts of a list such as n[1-3,7].
func hostnames(ctx context.Context, ask sched.Ask, list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	out, err := ask(ctx, "scontrol", "show", "hostnames", list)
	return strings.Fields(out), err
}

// anyLeft tells whether the job could run anywhere else.
func anyLeft(ctx context.Context, ask sched.Ask, rec record, excluded []string) bool {
	if rec.text("ReqNodeList") != "" {
		return false // demanded by the user
	}
	out, err := ask(ctx, "sinfo", "--noheader", "--Node", "--partition="+rec["Partition"], "--format=%N")
	return err == nil && slices.ContainsFunc(strings.Fields(out), func(n string) bool { return !slices.Contains(excluded, n) })
}

// featureMark begins the features of nodes that tell their kind (publish-label).
const featureMark = "esky-"

// alike demands for the next run a host of the same kind as this one, where the site
// publishes kinds as features of its nodes. What the user demands stays; an
// expression with more than "and" in it is left alone.
func alike(ctx context.Context, f sched.Facts, rec record, ref string) [][]string {
	feature := featureMark + f.HostLabel
	node, err := f.Ask(ctx, "scontrol", "--oneliner", "show", "node", f.Env("SLURMD_NODENAME"))
	if err != nil || f.HostLabel == "" || !slices.Contains(strings.Split(parseJob(node)["ActiveFeatures"], ","), feature) {
		return nil
	}
	var demands []string
	for _, d := range strings.Split(rec.text("Features"), "&") {
		switch {
		case strings.ContainsAny(d, "|[]()*,"):
			return nil
		case d != "" && !strings.HasPrefix(d, featureMark):
			demands = append(demands, d)
		}
	}
	demand := strings.Join(append(demands, feature), "&")
	if demand == rec["Features"] {
		return nil
	}
	return [][]string{{"scontrol", "update", "JobId=" + ref, "Features=" + demand}}
}
