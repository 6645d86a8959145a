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
func Scripts(t *testing.T, r sched.ScriptReader, cases map[string][]string, known ...string) {
	t.Helper()
	own, err := os.ReadFile("job.sh")
	if err == nil {
		cases[string(own)] = known
	}
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
