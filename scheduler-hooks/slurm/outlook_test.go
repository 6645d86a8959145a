// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

func TestForecast(t *testing.T) {
	facts := sched.Facts{Env: func(string) string { return "" }}
	end := time.Unix(1, 0)
	for name, c := range map[string]struct {
		job        sched.Job
		back, user string
	}{
		"comes back":   {sched.Job{End: end}, "scontrol requeue", ""},
		"no requeue":   {sched.Job{End: end, NoReturn: noRequeue}, "scontrol requeue", ""},
		"interactive":  {sched.Job{End: end, NoReturn: interactive}, "nobody brings it back", "sbatch"},
		"no end known": {sched.Job{}, "scontrol requeue", "--every"},
	} {
		c.job.Grace = 20 * time.Second
		o := (Adapter{}).Forecast(facts, c.job)
		user := strings.Join(o.User, "\n")
		if !strings.Contains(o.Back, c.back) || !strings.Contains(o.Warned, "20s later") || (user == "") != (c.user == "") || !strings.Contains(user, c.user) {
			t.Errorf("%s: %+v", name, o)
		}
	}
	facts.Stdout = sched.Stream{Regular: true, Path: "/out"}
	if o := (Adapter{}).Forecast(facts, sched.Job{}); !strings.Contains(o.Output, "/out is emptied") {
		t.Errorf("a redirected output: %q", o.Output)
	}
}
