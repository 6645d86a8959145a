// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A job that is killed without warning leaves no last word: what it has done
// must be on record before.
func TestWorkIsNotedAWhileAfterAResume(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- unix.SIGTERM
	r.want(99, "")
	r.again().cfg.patience.cpuNote = 100 * time.Millisecond
	j := r.start()
	j.mu.Lock()
	j.cpu = time.Hour
	j.mu.Unlock()
	var noted time.Duration
	for range 400 {
		p, err := r.store().Progress()
		if err != nil {
			t.Fatal(err)
		}
		if noted = p.CPU; noted != 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if noted != time.Hour {
		t.Errorf("on record: %v", noted)
	}
	j.exit(0)
	r.want(0, "")
}
