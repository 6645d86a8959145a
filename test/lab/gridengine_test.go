// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"testing"
	"time"
)

// How qacct shows a run: failed and exit status.
const (
	migrated = "24/"  // its migr_command was called
	again    = "25/99" // it asked to be queued again
	done     = "0/0"
)

// Suspension means migration: the job is saved, ended, and started again.
func TestGridEngineSuspendedJobMigrates(t *testing.T) {
	t.Parallel()
	const rounds = 40
	j := geJob(t, "ge-suspend").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 300 0", rounds), "-ckpt", "esky", "-q", "batch.q")
	j.awaitRound(8, "out")
	ge(t, "qmod", "-sj", j.id)
	j.awaitRun(2)
	j.awaitEnd(2*time.Minute, migrated+"75", done)
	j.expect(rounds, "out")
	j.wantRestarted("0 2")
}
