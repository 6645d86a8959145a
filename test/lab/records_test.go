// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// expectStates checks Slurm's own books: its completion log has a line for each
// time that a job left a host, with the state that it went into. PENDING is one
// that was requeued, PREEMPTED as well where its partition requeues. The last line comes a little after the end.
func (j *job) expectStates(want ...string) {
	j.t.Helper()
	var got []string
	j.await("its lines in the completion log", 20*time.Second, func() bool {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(home())), "host/ctl/up/var/log/slurm/jobcomp"))
		if err != nil {
			j.t.Fatal(err)
		}
		got = nil
		for line := range strings.Lines(string(text)) {
			if rec := fields(line); rec["JobId"] == j.id {
				got = append(got, rec["JobState"])
			}
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		j.t.Errorf("job %s: Slurm's log has the states %v, not %v", j.id, got, want)
	}
}
