// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestGridengineJob(t *testing.T) {
	for _, c := range []struct{ id, task, want string }{
		{"55", "undefined", "55"},
		{"55", "3", "55.3"},
		{"", "undefined", ""},
		{"0", "undefined", ""},
		{"55; rm", "undefined", ""},
		{"55", "", ""},
		{"55", "../x", ""},
	} {
		env := map[string]string{"JOB_ID": c.id, "SGE_TASK_ID": c.task}
		j, err := gridengineJob([]string{"129"}, func(k string) string { return env[k] })
		if (err == nil) != (c.want != "") || err == nil && j.id != c.want {
			t.Errorf("job %q, task %q: %q, %v", c.id, c.task, j.id, err)
		}
	}
	if _, err := gridengineJob(nil, func(string) string { return "1" }); err == nil {
		t.Error("a job without a process was accepted")
	}
}

func TestLeaderIsAProcessOfAJob(t *testing.T) {
	for _, pid := range []string{"", "0", "1", "-1", "1x", "4294967297"} {
		if n, err := leaderOf([]string{pid}); err == nil {
			t.Errorf("$job_pid %q was accepted as %d", pid, n)
		}
	}
	if n, err := leaderOf([]string{"129"}); n != 129 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
