// SPDX-License-Identifier: Apache-2.0

package harness

import "strings"

// StartAgain is Start for a job without namespaces that was taken away: it waits
// until the job goes on. One whose old process numbers somebody else had is begun
// again, as a batch system would do, and so is one whose terminal got another number.
func (j *Job) StartAgain() *Run {
	j.T.Helper()
	const most = 5
	for tries := 1; ; tries++ {
		r := j.Start()
		r.Until("the job goes on or cannot", func() bool { return strings.Contains(r.Stderr(), "resumed "+j.Name) || r.Ended() })
		said := r.Stderr()
		switch {
		case strings.Contains(said, "is somebody else's here") && tries < most:
			r.Crash()
		case strings.Contains(said, "resumed "+j.Name) || !r.Ended():
			return r
		case tries == most || !strings.Contains(said, "process number"):
			j.T.Fatalf("the job does not go on: status %d, %s", r.Wait(), said)
		}
	}
}
