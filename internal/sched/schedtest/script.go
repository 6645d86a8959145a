// SPDX-License-Identifier: Apache-2.0

package schedtest

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/sched"
)

// Scripts checks what an adapter reads in job scripts: for each text a word of
// every sentence, in order. The folder's own job.sh must give no cause for one,
// but for those in known.
func Scripts(t *testing.T, r sched.Adapter, cases map[string][]string, known ...string) {
	t.Helper()
	if _, err := os.Stat("job.sh"); err == nil {
		Files(t, r, "job.sh", cases, known...)
		return
	}
	check(t, r, cases)
}

// Files is Scripts for an adapter whose folder has another job file.
func Files(t *testing.T, r sched.Adapter, own string, cases map[string][]string, known ...string) {
	t.Helper()
	text, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	cases[string(text)] = known
	check(t, r, cases)
}

func check(t *testing.T, r sched.Adapter, cases map[string][]string) {
	t.Helper()
	for text, want := range cases {
		reader, told := sched.ReadScript(text)
		if reader == nil || reader.Name() != r.Name() {
			t.Errorf("%s\nis not known to be for %s", text, r.Name())
			continue
		}
		short := make([]string, len(told))
		for i := range told {
			short[i] = told[i]
			if i < len(want) && strings.Contains(told[i], want[i]) {
				short[i] = want[i]
			}
		}
		if d := cmp.Diff(append([]string{}, want...), short); d != "" {
			t.Errorf("%s\n%s", text, d)
		}
	}
}
