// SPDX-License-Identifier: Apache-2.0

package state

import (
	"os"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// TestTerminalTaken brings a job back without namespaces while the number of its
// terminal is another's: it gets another one, which is said.
func TestTerminalTaken(t *testing.T) {
	terminals.Lock()
	defer terminals.Unlock()
	for _, b := range builds(t) {
		if b.name() != "pty-session-glibc" {
			continue
		}
		j := b.job(t, b.install(t))
		j.Flags = []string{"--mode", "shim"}
		r := j.Start()
		ready(j, r)
		j.Checkpoint("--stop")
		r.WaitFor(harness.ExitAgain)
		for range 8 { // a new terminal has the lowest number
			master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
		}
		r = j.Start()
		finish(j, r)
		if !strings.Contains(r.Stderr(), "is somebody else's here: that terminal of the job is /dev/pts/") {
			t.Errorf("not told: %s", r.Stderr())
		}
	}
}
