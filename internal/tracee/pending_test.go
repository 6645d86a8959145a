// SPDX-License-Identifier: Apache-2.0

package tracee

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPendingInterrupted reads a queue while signals come to the reader, as do those
// by which Go preempts its threads.
func TestPendingInterrupted(t *testing.T) {
	c := newChild(t)
	must(t, SetSigmask(c.pid, ^uint64(0)))
	const queued = 100
	for range queued {
		must(t, unix.Kill(c.pid, unix.Signal(40)))
	}
	reader, done, over := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Tgkill(os.Getpid(), reader, unix.SIGURG)
			}
		}
	}()
	defer func() { close(done); <-over }()
	for range 2000 {
		if all, err := Pending(c.pid, true); err != nil || len(all) != queued {
			t.Fatalf("%d of %d signals, %v", len(all), queued, err)
		}
	}
}
