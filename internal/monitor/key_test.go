// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"cmp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/store"
)

// twins are the rigs of two commands of one script that run the same line, and what
// tells the keys under which they start.
func twins(t *testing.T) (both [2]*rig, keys chan string) {
	keys = make(chan string, 2)
	for i := range both {
		r := newRig(t)
		r.adapter.job.Sole = false
		r.cfg.Store = cmp.Or(both[0], r).cfg.Store
		r.engine.onStart = func(o engine.StartOptions) error {
			for _, kv := range o.Env {
				if key, ok := strings.CutPrefix(kv, "ESKY_JOB="); ok {
					keys <- key
				}
			}
			return nil
		}
		both[i] = r
	}
	return both, keys
}

// Two equal command lines that start in the same moment are two jobs: neither
// chooses its key before the other's choice can be seen.
func TestTwinsHaveKeysOfTheirOwn(t *testing.T) {
	both, keys := twins(t)
	s, err := store.Open(both[0].cfg.Store, "fake-7")
	if err != nil {
		t.Fatal(err)
	}
	choosing, err := s.TryLockKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range both {
		r.cfg.patience.lock = time.Minute
		r.run()
	}
	select {
	case key := <-keys:
		t.Fatalf("%s has started while another chooses", key)
	case <-time.After(100 * time.Millisecond):
	}
	choosing.Close()
	var got []string
	for range both {
		select {
		case key := <-keys:
			got = append(got, key)
		case <-time.After(5 * time.Second):
			t.Fatalf("started %q only", got)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"fake-7", "fake-7.2"}) {
		t.Errorf("started %q", got)
	}
	for _, r := range both {
		(<-r.engine.jobs).exit(0)
		r.want(0, "")
	}
}

// Whoever waits for its key can be told to leave, and does not wait for ever.
func TestTwinThatNeverStarts(t *testing.T) {
	both, _ := twins(t)
	s, err := store.Open(both[0].cfg.Store, "fake-7")
	if err != nil {
		t.Fatal(err)
	}
	choosing, err := s.TryLockKeys()
	if err != nil {
		t.Fatal(err)
	}
	defer choosing.Close()
	both[0].run()
	both[0].want(ExitAgain, "another run of this command line")
	both[1].cfg.patience.lock = time.Minute
	both[1].signals <- syscall.SIGTERM
	both[1].run()
	both[1].want(99, "")
}
