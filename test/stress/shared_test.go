// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/freeze"
)

// TestSharedMemory saves a parent and workers that have its data by fork: the
// data is in the image once, and in memory once, before and after a resume.
func TestSharedMemory(t *testing.T) {
	const workers, mib = 8, 128
	for _, preload := range []bool{true, false} {
		t.Run(map[bool]string{true: "preloaded", false: "injected"}[preload], func(t *testing.T) {
			j := start(t, preload, "shared", number(workers), number(mib))
			before := j.pss()
			j.atMost("memory before", before, mib)
			dir, _ := j.save(false)
			j.atMost("a live image", j.size(dir), mib)
			j.remove(dir)
			for range 2 { // what was resumed is as good as what it was
				j.move()
				after := j.pss()
				j.atMost("memory after a resume", after, mib)
				t.Logf("memory: %d MiB before, %d MiB after", before>>20, after>>20)
			}
			dir, _ = j.save(false)
			j.atMost("the image of what was resumed", j.size(dir), mib)
			j.finish()
		})
	}
}

func number(n int) string { return fmt.Sprint(n) }

// atMost allows for a quarter more than the data itself.
func (j *job) atMost(what string, bytes int64, mib int64) {
	j.t.Helper()
	if bytes < mib<<20 || bytes > mib<<20+mib<<18 {
		j.t.Errorf("%s: %d MiB for %d MiB of data", what, bytes>>20, mib)
	}
}

// size of the files below a directory.
func (j *job) size(dir string) (n int64) {
	j.t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			n += info.Size()
		}
		return err
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return n
}

// pss is the memory of all processes of the job, in which a page that n of them
// share counts n times an n-th (proc_pid_smaps(5)).
func (j *job) pss() (n int64) {
	j.t.Helper()
	pids, err := freeze.Descendants(j.InitPid)
	if err != nil {
		j.t.Fatal(err)
	}
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			j.t.Fatal(err)
		}
		defer f.Close()
		found := false
		for s := bufio.NewScanner(f); s.Scan(); {
			if value, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
				var kib int64
				if _, err := fmt.Sscanf(value, "%d kB", &kib); err != nil {
					j.t.Fatal(err)
				}
				n, found = n+kib<<10, true
			}
		}
		if !found {
			j.t.Fatalf("no Pss of process %d", pid)
		}
	}
	return n
}
