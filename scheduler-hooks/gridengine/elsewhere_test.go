// SPDX-License-Identifier: Apache-2.0

package gridengine

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
)

// kinds are those of the cluster's hosts.
var kinds = map[string]string{"n1": "kind-1", "n2": "kind-1", "n3": "kind-1", "n7": "kind-7"}

// cluster answers as one does whose hosts tell their kinds.
func cluster(rec string) sched.Ask {
	return func(_ context.Context, argv ...string) (string, error) {
		wanted := parseRequests(argv[len(argv)-1])
		met := ""
		switch argv[0] {
		case "qstat":
			return rec, nil
		case "qconf":
			return complexes, nil
		case "qhost":
			for host, kind := range kinds {
				if ok, _ := path.Match(wanted[hostComplex], kind); ok {
					met += host + " lx-amd64 2\n"
				}
			}
			return "HOSTNAME ARCH NCPU\n" + met, nil
		}
		for host := range kinds { // qselect
			name := wanted[hostName]
			theirs, _, _ := strings.Cut(name, "&!")
			ok, _ := path.Match(strings.Trim(theirs, "()"), host)
			if (ok || name == "" || name[0] == '!') && !strings.Contains(name+"&", "!"+host+"&") {
				met += "batch.q@" + host + "\n"
			}
		}
		if met == "" {
			return "", errors.New("qselect: exit status 1")
		}
		return met, nil
	}
}

func TestElsewhere(t *testing.T) {
	const ours = "\ncontext: mine=1,esky_asks=hostname,esky_wrong_hosts="
	for _, c := range []struct {
		name, rec, image, task string
		context, want          string // what is asked for; empty: the job is held
	}{
		{"the first host", "", "kind-1", "", "esky_asks=hostname,esky_wrong_hosts=1", "hostname=!n1"},
		{"beside what the user wants", "hard resource_list: h_rt=60,hostname=n[12]", "", "", "esky_asks=hostname,esky_wrong_hosts=1", "h_rt=60,hostname=(n[12])&!n1"},
		{"the second", "hard resource_list: hostname=!n2" + ours + "1", "kind-1", "", "esky_asks=hostname,esky_wrong_hosts=2", "hostname=!n2&!n1"},
		{"a host of another kind", "", "kind-7", "", "esky_asks=esky_host,esky_wrong_hosts=1", "esky_host=kind-7"},
		{"another kind, where the user wants any", "hard resource_list: esky_host=*", "kind-7", "", "esky_asks=hostname,esky_wrong_hosts=1", "esky_host=*,hostname=!n1"},
		{"no host of that kind", "", "kind-9", "", "", ""},
		{"no other host", "hard resource_list: hostname=n1", "kind-1", "", "", ""},
		{"all were wrong", "hard resource_list: hostname=!n2&!n3&!n7" + ours + "3", "kind-1", "", "", ""},
		{"enough were wrong", "hard resource_list: hostname=!n2" + ours + "8", "kind-1", "", "", ""},
		{"a task", "", "kind-1", "3", "esky_asks=hostname,esky_wrong_hosts_3=1", "hostname=!n1"},
		{"a task, when others have excluded the rest", "hard resource_list: hostname=!n2&!n3&!n7" + ours + "1", "kind-1", "3", "esky_asks=hostname,esky_wrong_hosts_3=1", "hostname=!n1"},
		{
			"a task, when others wanted something else", "hard resource_list: esky_host=kind-7,h_rt=60\ncontext: esky_asks=esky_host,esky_wrong_hosts_2=1",
			"kind-1", "3", "esky_asks=hostname,esky_wrong_hosts_3=1", "h_rt=60,hostname=!n1",
		},
		{
			"a task of one kind, after one of another", "hard resource_list: esky_host=kind-1\ncontext: esky_asks=esky_host,esky_wrong_hosts_2=1",
			"kind-7", "3", "esky_asks=esky_host,esky_wrong_hosts_3=1", "esky_host=kind-7",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			task := c.task
			if task == "" {
				task = "undefined"
			}
			f := schedtest.Case{Env: map[string]string{"JOB_ID": "55", "SGE_TASK_ID": task, "HOSTNAME": "n1"}}.Facts()
			f.Ask, f.ImageLabel = cluster(c.rec+"\n"), c.image
			a, ok := Adapter{}.Elsewhere(t.Context(), f, sched.Job{ID: "55"}, "")
			if ok != (c.want != "") {
				t.Fatalf("%+v, %v", a, ok)
			}
			if !ok {
				return
			}
			if d := cmp.Diff([][]string{{"qalter", "-ac", c.context, "-l", c.want, "55"}}, a.Commands); d != "" || a.Exit != exitAgain {
				t.Error(d, a.Exit)
			}
		})
	}
}

func TestElsewhereOfAnInteractiveJob(t *testing.T) {
	f := schedtest.Case{Env: map[string]string{"JOB_ID": "55", "SGE_TASK_ID": "undefined", "HOSTNAME": "n1"}}.Facts()
	f.Ask = cluster("")
	if a, ok := (Adapter{}).Elsewhere(t.Context(), f, sched.Job{NoReturn: "it is an interactive job"}, ""); ok {
		t.Errorf("%+v", a)
	}
}
