// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors is how many the program with many descriptors has. A resume needs
// twice as many for a moment, and more than the hard limit there cannot be.
func descriptors(t *testing.T) int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	const pipes = 2 // of each five descriptors two are a pipe's, which is opened apart
	return int(min(10000, (lim.Max-100)*5/(10+pipes)))
}

// TestBig saves, stops and resumes programs that have a great many of one thing.
func TestBig(t *testing.T) {
	for _, c := range []struct {
		kind    string
		n       int
		preload bool
	}{
		{"tree", 500, false},
		{"tree", 500, true},
		{"threads", 2000, false},
		{"threads", 2000, true},
		{"descriptors", descriptors(t), false},
		{"mappings", 60000, false},
		{"mappings", 60000, true},
		{"timers", 400, true},
	} {
		name := fmt.Sprintf("%d %s", c.n, c.kind)
		if c.preload {
			name += ", preloaded"
		}
		t.Run(name, func(t *testing.T) {
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
