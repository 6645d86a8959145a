// SPDX-License-Identifier: Apache-2.0

package real

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// TestAdopt starts each program without esky, adopts it while it runs on, adopts
// it once more and ends it, and brings it back; from then on it is a job like any
// other, which is saved, taken away, and brought back by the line of a job script.
func TestAdopt(t *testing.T) {
	table := harness.NewTable(t, "adopted", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		want := undisturbed(t, p, j)
		r := j.StartDetached()
		at := func(fraction float64) {
			t.Helper()
			r.Until(fmt.Sprintf("%.0f %% of the lines", fraction*100), func() bool {
				return strings.Count(j.Read("stdout"), "\n") >= int(fraction*float64(p.lines))
			})
		}
		at(0.05)
		adopted(t, j.Adopt(r.Pid()))
		at(0.15)
		adopted(t, j.Adopt(r.Pid(), "--stop"))
		r.WaitFor(128 + int(syscall.SIGKILL))
		r = j.Resume()
		at(0.5)
		j.Checkpoint()
		at(0.7)
		j.Checkpoint("--stop")
		r.WaitFor(harness.ExitAgain)
		r = j.Start()
		r.WaitFor(0)
		compare(t, j, want)
	})
}

// TestAdoptedCrash adopts a program twice while it runs on; then everything dies
// at once. It goes on from the second image, and nothing stands in its output
// twice.
func TestAdoptedCrash(t *testing.T) {
	table := harness.NewTable(t, "adopted, then killed", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		want := undisturbed(t, p, j)
		r := j.StartDetached()
		for n := 1; n <= 2; n++ {
			r.Until(fmt.Sprintf("line %d", n*p.lines/5), func() bool { return strings.Count(j.Read("stdout"), "\n") >= n*p.lines/5 })
			adopted(t, j.Adopt(r.Pid()))
		}
		if n := len(j.Generations()); n != 2 {
			t.Errorf("%d generations", n)
		}
		r.Until("more lines", func() bool { return strings.Count(j.Read("stdout"), "\n") >= p.lines/2 })
		if o := j.Esky("resume"); o.Status != harness.ExitHost || !strings.Contains(o.Stderr, fmt.Sprintf("process %d", r.Pid())) {
			t.Errorf("resumed beside the living program: %s", o)
		}
		r.Crash()
		r = j.Resume()
		r.WaitFor(0)
		compare(t, j, want)
	})
}

func adopted(t *testing.T, o harness.Outcome) {
	t.Helper()
	if o.Status != 0 {
		t.Fatalf("esky-wrap adopt: %s", o)
	}
	if o.Took > 30*time.Second {
		t.Errorf("esky-wrap adopt took %s", o.Took)
	}
}
