// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/esky-hpc/esky/internal/sched"
)

const (
	// hostComplex is what setup and load-sensor give each host.
	hostComplex = "esky_host"
	// hostName is the complex that all hosts have.
	hostName = "hostname"

	// What esky keeps in a job's context (qsub -ac), which outlives its runs: which
	// of the requests are esky's, and how often in a row a host was wrong.
	asksContext  = "esky_asks"
	wrongContext = "esky_wrong_hosts"

	// mostWrong is how many hosts may not fit an image, before the job is held: it
	// is the image then, or the program, and not the hosts.
	mostWrong = 8
)

// requests are what a job asks of its host: "h_rt=3600,s_rt=3500". Other lists of
// qstat's have the same form.
type requests map[string]string

func parseRequests(list string) requests {
	all := requests{}
	for r := range strings.SplitSeq(list, ",") {
		if name, value, ok := strings.Cut(r, "="); ok {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}

func (r requests) String() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		all = append(all, name+"="+r[name])
	}
	return strings.Join(all, ",")
}

// without are the requests less those that esky has added: names of asksContext.
func (r requests) without(ours string) requests {
	r = maps.Clone(r)
	for name := range strings.SplitSeq(ours, "+") {
		// A host name that the user has asked for is in parentheses: see exclude.
		end := strings.LastIndex(r[name], ")&!")
		if name != hostName || end < 0 {
			delete(r, name)
			continue
		}
		r[name] = strings.TrimPrefix(r[name][:end], "(")
	}
	return r
}

// exclude asks for any other host than this one (sge_types(5), expression).
func (r requests) exclude(host, ours string) {
	switch have := r[hostName]; {
	case have == "":
		r[hostName] = "!" + host
	case isOurs(hostName, ours):
		r[hostName] += "&!" + host
	default:
		r[hostName] = "(" + have + ")&!" + host
	}
}

func isOurs(name, ours string) bool { return slices.Contains(strings.Split(ours, "+"), name) }

// isTask tells whether this is a task of an array.
func isTask(f sched.Facts) bool { return f.Env("SGE_TASK_ID") != "undefined" }

// wrong is where this job, or task, keeps how many hosts were wrong.
func wrong(f sched.Facts) string {
	if isTask(f) {
		return wrongContext + "_" + f.Env("SGE_TASK_ID")
	}
	return wrongContext
}

// confine asks for the kind of host that the job runs on, which holds from its
// next start on, where hosts tell their kinds. Tasks of an array share one list of
// requests, and those that are still to begin may run anywhere: a task only takes
// back what it has asked for to get here.
func confine(ctx context.Context, f sched.Facts, rec map[string]string) [][]string {
	id, want, kept := f.Env("JOB_ID"), parseRequests(rec["hard resource_list"]), parseRequests(rec["context"])
	var all [][]string
	if _, wandered := kept[wrong(f)]; wandered {
		line := []string{"qalter", "-dc", wrong(f)}
		if isTask(f) {
			line = []string{"qalter", "-dc", wrong(f) + "," + asksContext, "-l", want.without(kept[asksContext]).String()}
		}
		all = append(all, append(line, id))
	}
	// One that is there is asked for already, or the user's own choice.
	if isTask(f) || want[hostComplex] != "" || !tellKinds(ctx, f) {
		return all
	}
	want[hostComplex] = f.HostLabel
	return append(all, []string{"qalter", "-l", want.String(), id})
}

// tellKinds tells whether the site's hosts say of what kind they are.
func tellKinds(ctx context.Context, f sched.Facts) bool {
	complexes, err := f.Ask(ctx, "qconf", "-sc")
	return f.HostLabel != "" && err == nil && strings.Contains(complexes, "\n"+hostComplex+" ")
}

// Elsewhere implements sched.Mover: the job asks for a host of the image's kind, or
// for any but this one, and goes back to the queue.
func (Adapter) Elsewhere(ctx context.Context, f sched.Facts, j sched.Job, _ string) (sched.Action, bool) {
	id, here := f.Env("JOB_ID"), f.Env("HOSTNAME")
	out, err := f.Ask(ctx, "qstat", "-j", id)
	if err != nil || here == "" || j.NoReturn != "" {
		return sched.Action{}, false
	}
	rec := parse(out)
	kept := parseRequests(rec["context"])
	times, _ := strconv.Atoi(kept[wrong(f)]) // 0 if it is not there
	if times >= mostWrong {
		return sched.Action{}, false
	}
	want, asks, ok := otherHosts(ctx, f, rec, kept[asksContext])
	if !ok {
		return sched.Action{}, false
	}
	return sched.Action{
		Commands: [][]string{{
			"qalter", "-ac", fmt.Sprintf("%s=%s,%s=%d", asksContext, asks, wrong(f), times+1), "-l", want.String(), id,
		}},
		Exit: exitAgain,
		Note: fmt.Sprintf("job %s is queued again, for another host than %s", j.ID, here),
	}, true
}

// otherHosts are requests that this host does not meet, but another does; asks are
// the names of those that are esky's. What other tasks of an array have asked for
// is left out if nothing meets all of it.
func otherHosts(ctx context.Context, f sched.Facts, rec map[string]string, ours string) (want requests, asks string, ok bool) {
	asked := parseRequests(rec["hard resource_list"])
	ofItsKind := f.ImageLabel != "" && f.ImageLabel != f.HostLabel && tellKinds(ctx, f)
	want, asks = asked.elsewhere(f, ofItsKind, ours)
	if isTask(f) && !anyHost(ctx, f, want, rec["hard_queue_list"]) {
		want, asks = asked.without(ours).elsewhere(f, ofItsKind, "")
	}
	return want, asks, anyHost(ctx, f, want, rec["hard_queue_list"])
}

// elsewhere asks for the image's kind of host, if that is not what was asked for
// already, or else for any other host. Another task's wish for a kind goes.
func (r requests) elsewhere(f sched.Facts, ofItsKind bool, ours string) (want requests, asks string) {
	want, asks = maps.Clone(r), ours
	if isOurs(hostComplex, ours) && r[hostComplex] != f.ImageLabel {
		want = r.without(hostComplex)
		asks = strings.Trim(strings.ReplaceAll(ours, hostComplex, ""), "+")
	}
	name := hostName
	if ofItsKind && want[hostComplex] == "" {
		name, want[hostComplex] = hostComplex, f.ImageLabel
	} else {
		want.exclude(f.Env("HOSTNAME"), asks)
	}
	if !isOurs(name, asks) {
		asks = strings.Trim(asks+"+"+name, "+")
	}
	return want, asks
}

// anyHost tells whether a host meets what is asked about hosts. What else is asked
// for may be in use just now. qselect knows names and no load values, which kinds
// are; qhost knows the values and no expressions with names.
func anyHost(ctx context.Context, f sched.Facts, want requests, queues string) bool {
	line := []string{"qselect", "-q", cmp.Or(queues, "*")}
	if name := want[hostName]; name != "" {
		line = append(line, "-l", hostName+"="+name)
	}
	instances, err := f.Ask(ctx, line...)
	if err != nil || strings.TrimSpace(instances) == "" || want[hostComplex] == "" {
		return err == nil && strings.TrimSpace(instances) != ""
	}
	hosts, err := f.Ask(ctx, "qhost", "-l", hostComplex+"="+want[hostComplex])
	return err == nil && slices.ContainsFunc(strings.Fields(instances), func(queueAtHost string) bool {
		_, host, _ := strings.Cut(queueAtHost, "@")
		host, _, _ = strings.Cut(host, ".") // qhost may leave its domain out
		return strings.Contains(hosts, "\n"+host)
	})
}
