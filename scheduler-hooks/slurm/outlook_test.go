// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

// controller answers scontrol's questions about one job.
func controller(partition, config string) sched.Ask {
	return func(_ context.Context, argv ...string) (string, error) {
		switch line := strings.Join(argv, " "); {
		case strings.HasSuffix(line, "show job 7"):
			return "JobId=7 JobState=RUNNING Partition=low StdOut=/home/out", nil
		case strings.HasSuffix(line, "show partition low"):
			return "PartitionName=low " + partition, nil
		case line == "scontrol show config":
			return config, nil
		}
		return "", errors.New("not asked for")
	}
}

func TestForecast(t *testing.T) {
	const preempts = "PreemptType = preempt/partition_prio\nProctrackType = proctrack/cgroup\nKillWait = 30 sec\nJobFileAppend = 0\n"
	const tells = "SlurmctldParameters = preempt_send_user_signal\n"
	end := time.Unix(1, 0)
	for name, c := range map[string]struct {
		partition, config string
		job               sched.Job
		want              []string // in what is said of its warning, return, output, and of what user and site can do
	}{
		"comes back": {"PreemptMode=REQUEUE GraceTime=0", preempts + tells, sched.Job{End: end},
			[]string{"20s later", "to esky, if", "low is PreemptMode=REQUEUE without GraceTime", "scontrol requeue", "KillWait is 30s", "JobFileAppend=1"}},
		"grace, told":     {"PreemptMode=CANCEL GraceTime=60", preempts + tells, sched.Job{End: end}, []string{"GraceTime of 1m0s, which a script with --signal=B:"}},
		"grace, not told": {"PreemptMode=REQUEUE GraceTime=60", preempts, sched.Job{End: end}, []string{"only srun's steps hear", "PreemptParameters=send_user_signal"}},
		"suspends":        {"PreemptMode=SUSPEND GraceTime=0", preempts, sched.Job{End: end}, []string{"not saved"}},
		"never":           {"PreemptMode=OFF GraceTime=0", preempts, sched.Job{End: end}, []string{"nothing preempts jobs of partition low"}},
		"none":            {"PreemptMode=OFF", "PreemptType = preempt/none\nKillWait = 90 sec\n", sched.Job{End: end}, []string{"nothing preempts jobs here"}},
		"signals all":     {"PreemptMode=OFF", "ProctrackType = proctrack/linuxproc\n", sched.Job{End: end}, []string{"the program's too", "ProctrackType=proctrack/cgroup"}},
		"no requeue":      {"", preempts, sched.Job{End: end, NoReturn: noRequeue}, []string{"after a failure of the host nobody does"}},
		"interactive":     {"", preempts, sched.Job{End: end, NoReturn: interactive}, []string{"nobody brings it back", "sbatch"}},
		"no end known":    {"", preempts, sched.Job{}, []string{"--every"}},
	} {
		c.job.Grace, c.job.ID = 20*time.Second, "7"
		o := (Adapter{}).Forecast(sched.Facts{Env: func(string) string { return "" }, Ask: controller(c.partition, c.config)}, c.job)
		all := strings.Join(append(append([]string{o.Warned, o.Back, o.Output}, o.User...), o.Admin...), "\n")
		for _, want := range c.want {
			if !strings.Contains(all, want) {
				t.Errorf("%s: nothing of %q in\n%s", name, want, all)
			}
		}
		if (o.User == nil) != (c.job.NoReturn != interactive && !c.job.End.IsZero()) {
			t.Errorf("%s: the user can %q", name, o.User)
		}
	}
}

func TestForecastWithoutAnswers(t *testing.T) {
	silent := func(context.Context, ...string) (string, error) { return "", errors.New("no controller") }
	o := (Adapter{}).Forecast(sched.Facts{Env: func(string) string { return "" }, Ask: silent}, sched.Job{ID: "7"})
	if !strings.Contains(o.Warned, "what preemption does is not known") || o.Admin != nil {
		t.Errorf("%+v", o)
	}
}

func TestForecastOfTheOutput(t *testing.T) {
	for _, c := range []struct {
		stdout       sched.Stream
		append, want string
	}{
		{sched.Stream{Regular: true, Path: "/out"}, "0", "/out is emptied"},
		{sched.Stream{Regular: true, Append: true, Path: "/home/out"}, "0", "Slurm empties /home/out"},
		{sched.Stream{Regular: true, Append: true, Path: "/home/out"}, "1", "Slurm appends"},
		{sched.Stream{}, "1", "--open-mode"},
	} {
		f := sched.Facts{Env: func(string) string { return "" }, Stdout: c.stdout, Ask: controller("", "JobFileAppend = "+c.append+"\n")}
		if o := (Adapter{}).Forecast(f, sched.Job{ID: "7"}); !strings.Contains(o.Output, c.want) {
			t.Errorf("%+v: %q", c, o.Output)
		}
	}
}
