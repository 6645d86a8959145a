// SPDX-License-Identifier: Apache-2.0

package state

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// huge is held by who has most of the host's huge pages.
var huge sync.Mutex

// TestHugePagesGone resumes a program where there are no huge pages any more.
func TestHugePagesGone(t *testing.T) {
	huge.Lock()
	t.Cleanup(huge.Unlock)
	harness.HugePages(t, 8)
	program := filepath.Join(harness.Dir(t), "hugetlb")
	harness.Compile(t, program, filepath.Join(programsDir(), "hugetlb.c"), "gcc", "-D_GNU_SOURCE")
	j := harness.NewJob(t, program, "status", "gone")
	r := j.Start()
	ready(j, r)
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	harness.NoHugePages(t)
	r = j.Start()
	finish(j, r)
	if said := r.Stderr(); !strings.Contains(said, "4 MiB of its memory are not in huge pages of 2048 KiB any more") {
		t.Errorf("esky said: %s", said)
	}
}
