// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// kinds of work in programs/overhead.c.
var kinds = []string{"cpu", "memory", "syscalls", "clocks", "naps", "files", "pipes", "malloc", "mmap", "threads", "fork", "exec"}

// overheadLine is one kind of work without esky and under it, in seconds; the
// whole time of the command includes its start and end.
type overheadLine struct {
	Kind  string  `json:"kind"`
	Bare  sample  `json:"bare"`
	Esky  sample  `json:"esky"`
	Ratio float64 `json:"ratio"` // of the medians of the work alone
}

type sample struct {
	Work  []float64 `json:"work_s"`
	Whole []float64 `json:"whole_s"`
}

const overheadRounds = 5

func (b *bench) overhead() ([]overheadLine, error) {
	var lines []overheadLine
	for _, k := range kinds {
		l := overheadLine{Kind: k}
		for i := range overheadRounds {
			// Turn about, so that a drift of the machine hits both.
			if err := b.work(&l.Bare, k, ""); err != nil {
				return lines, err
			}
			if err := b.work(&l.Esky, k, fmt.Sprintf("%s-%d", k, i)); err != nil {
				return lines, err
			}
		}
		l.Ratio = middle(l.Esky.Work) / middle(l.Bare.Work)
		lines = append(lines, l)
	}
	return lines, nil
}

// work runs one kind of work, under esky if the job has a name.
func (b *bench) work(s *sample, kind, job string) error {
	line := []string{filepath.Join(b.dir, "overhead"), kind, strconv.Itoa(b.scale)}
	if job != "" {
		line = append([]string{filepath.Join(b.dir, "esky-wrap"), "run", "--store", filepath.Join(b.dir, "store"), "--name", job, "--"}, line...)
	}
	var errors strings.Builder
	cmd := harness.Command(b.dir, line[0], line[1:]...)
	cmd.Stderr = &errors
	start := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(line, " "), err, errors.String())
	}
	s.Whole = append(s.Whole, time.Since(start).Seconds())
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	s.Work = append(s.Work, seconds)
	return nil
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
