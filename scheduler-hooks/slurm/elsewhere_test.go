// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/sched"
)

// answers is a controller that knows these, by their first words.
func answers(env map[string]string, known map[string]string) sched.Facts {
	f := facts(&fakeSlurm{}, env)
	f.HostLabel = "amd64-1"
	f.Ask = func(_ context.Context, argv ...string) (string, error) {
		line := strings.Join(argv, " ")
		for words, answer := range known {
			if strings.HasPrefix(line, words) {
				return answer, nil
			}
		}
		return "", errors.New(line + ": not expected")
	}
	return f
}

func TestElsewhere(t *testing.T) {
	const nodes = "n1\nn2\nn3\nn4\nn5\nn6\nn7\nn8\nn9\nn10\n"
	record := strings.Replace(running, " ReqNodeList", " Partition=p ReqNodeList", 1)
	for _, c := range []struct {
		name, job, nodes, expanded, want string // want: the new list; empty: held
	}{
		{"the first host", record, nodes, "", "n1"},
		{"the third", with(record, "ExcNodeList=n[7-8]"), nodes, "n7\nn8\n", "n7,n8,n1"},
		{"no other host", with(record, "ExcNodeList=n2"), "n1\nn2\n", "n2\n", ""},
		{"enough tried", with(record, "ExcNodeList=n[2-9]"), nodes, "n2\nn3\nn4\nn5\nn6\nn7\nn8\nn9\n", ""},
		{"tied to its host", with(record, "ReqNodeList=n1"), nodes, "", ""},
		{"cancelled meanwhile", with(record, "JobState=CANCELLED"), nodes, "", ""},
		{"requeued meanwhile", with(record, "Restarts=1"), nodes, "", ""},
		{"no list of hosts", record, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := answers(map[string]string{"SLURMD_NODENAME": "n1"}, map[string]string{
				"scontrol --oneliner show job 12": c.job, "scontrol show hostnames": c.expanded, "sinfo --noheader --Node --partition=p ": c.nodes,
			})
			a, ok := Adapter{}.Elsewhere(context.Background(), f, sched.Job{ID: "12", Sole: true}, "another CPU")
			if ok != (c.want != "") {
				t.Fatalf("%+v, %v", a, ok)
			}
			if !ok {
				return
			}
			want := [][]string{
				{"scontrol", "update", "JobId=12", "Comment=esky: n1: another CPU"},
				{"scontrol", "requeuehold", "12"},
				{"scontrol", "update", "JobId=12", "ExcNodeList=" + c.want},
				{"scontrol", "release", "12"},
			}
			if d := cmp.Diff(want, a.Commands); d != "" || a.Exit != sched.ExitAgain {
				t.Error(a.Exit, d)
			}
		})
	}
}

func TestElsewhereOfAnInteractiveJob(t *testing.T) {
	f := answers(map[string]string{"SLURMD_NODENAME": "n1"}, nil)
	if a, ok := (Adapter{}).Elsewhere(context.Background(), f, sched.Job{ID: "12", NoReturn: interactive}, "x"); ok {
		t.Errorf("%+v", a)
	}
}

// A job that leaves demands a host of its kind, where kinds are published.
func TestLeaveDemandsTheKindOfHost(t *testing.T) {
	for _, c := range []struct{ features, published, want string }{
		{"(null)", "esky-amd64-1", "esky-amd64-1"},
		{"(null)", "gpu,esky-amd64-1", "esky-amd64-1"},
		{"gpu&big", "esky-amd64-1", "gpu&big&esky-amd64-1"},
		{"esky-amd64-0&gpu", "esky-amd64-1", "gpu&esky-amd64-1"}, // of the host before
		{"gpu&esky-amd64-1", "esky-amd64-1", ""},
		{"gpu|big", "esky-amd64-1", ""},
		{"[a|b]", "esky-amd64-1", ""},
		{"(null)", "gpu", ""},
		{"(null)", "esky-amd64-12", ""},
		{"(null)", "(null)", ""},
	} {
		job := strings.Replace(running, " Command=", " Features="+c.features+" Command=", 1)
		f := answers(map[string]string{"SLURMD_NODENAME": "n1"}, map[string]string{
			"scontrol --oneliner show job": job, "scontrol --oneliner show node n1": "NodeName=n1 ActiveFeatures=" + c.published + " State=MIXED",
		})
		want := [][]string(nil)
		if c.want != "" {
			want = [][]string{{"scontrol", "update", "JobId=12", "Features=" + c.want}}
		}
		a := Adapter{}.Leave(context.Background(), f, sched.Job{ID: "12", Sole: true})
		if d := cmp.Diff(want, a.Then); d != "" || len(a.Commands) != 1 {
			t.Errorf("%+v: %v %s", c, a.Commands, d)
		}
	}
}

// A script must not go on to its next line when its command has left.
func TestLeaveStaysInAScript(t *testing.T) {
	f := answers(nil, map[string]string{"scontrol --oneliner show job": running})
	for sole, want := range map[bool]bool{true: false, false: true} {
		if a := (Adapter{}).Leave(context.Background(), f, sched.Job{ID: "12", Sole: sole}); (a.Stay > 0) != want {
			t.Errorf("sole %v: stays %v", sole, a.Stay)
		}
	}
}
