// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/test/harness"
)

// scarce is how few descriptors the hard limit grants beyond those of the program
// that has many: a resume needs no more.
const scarce = 100

// descriptors is how many that program has.
func descriptors(t *testing.T) int {
	return int(min(10000, descriptorLimit(t).Max-scarce))
}

func descriptorLimit(t *testing.T) (lim unix.Rlimit) {
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	return lim
}

// limitDescriptors lowers the hard limit, for all tests that follow too.
func limitDescriptors(t *testing.T, n uint64) {
	lim := descriptorLimit(t)
	lim.Cur, lim.Max = min(lim.Cur, n), n
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
}

// TestBig saves, stops and resumes programs that have a great many of one thing.
func TestBig(t *testing.T) {
	type big struct {
		kind    string
		n       int
		preload bool
	}
	programs := []big{
		{"tree", 500, false},
		{"tree", 500, true},
		{"threads", 2000, false},
		{"threads", 2000, true},
		{"descriptors", descriptors(t), false},
		{"mappings", 60000, false},
		{"mappings", 60000, true},
		{"timers", 400, true},
	}
	if harness.All() {
		programs = append(programs, big{"threads", 4000, true})
	}
	for _, c := range programs {
		name := fmt.Sprintf("%d %s", c.n, c.kind)
		if c.preload {
			name += ", preloaded"
		}
		t.Run(name, func(t *testing.T) {
			if c.kind == "descriptors" {
				limitDescriptors(t, uint64(c.n)+scarce)
			}
			j := start(t, c.preload, "big", c.kind, fmt.Sprint(c.n))
			pause := j.saveLive()
			began := time.Now()
			j.move()
			took := time.Since(began)
			j.move() // what was resumed is as good as what it was
			j.saveLive()
			j.finish()
			t.Logf("pause %v; stop and resume in %v", pause, took)
		})
	}
}
