// SPDX-License-Identifier: Apache-2.0

package real

import (
	"slices"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// inShimMode are the programs that every run drives without namespaces. Static ones
// need their old process numbers, which may take minutes on a busy machine.
var inShimMode = []string{"python-numpy", "bash-pipeline", "perl", "musl"}

// TestShimMode takes programs away and brings them back without namespaces, where
// they get other process numbers and the host's clocks.
func TestShimMode(t *testing.T) {
	table := harness.NewTable(t, "shim mode", "live", "stopped", "crashed", "longest", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		if !harness.All() && !slices.Contains(inShimMode, p.name) {
			table.Set(p.name, "result", "left out")
			t.Skip("takes long: ESKY_TEST=all")
		}
		j.Flags = append(j.Flags, "--mode", "shim")
		disturb(t, p, j, harness.Rand(t), []string{"live", "stop", "crash", "stop", "live", "stop"}, table)
	})
}
