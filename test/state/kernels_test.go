// SPDX-License-Identifier: Apache-2.0

package state

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
	"github.com/esky-hpc/esky/test/lab/guest"
)

var onKernels = flag.String("kernel-programs", "^(threads|cpu-syscall|tree|share-files|mem-cow|mem-shared|mem-file-private|vma-unlinked|vma-seal|"+
	"sig-pending|posix-timers|files-unlinked|locks-posix|pipes-content|timerfd|inotify-files|sock-stream|usock-rights|tcp-stream|"+
	"block-read|block-futex-untimed|block-epoll-untimed|rseq|sysv-shm|mqueue|pty|no-uring|no-clone-vm)$",
	"which lines of programs.txt are tried under other kernels")

// TestKernels takes some programs away and brings them back under other kernels.
func TestKernels(t *testing.T) {
	if !harness.All() {
		t.Skip("fetches kernels, and emulates a machine for minutes: ESKY_TEST=all")
	}
	wanted := regexp.MustCompile(*onKernels)
	dir, lines := harness.Dir(t), ""
	harness.CopyProgram(t, harness.Wrap(), filepath.Join(dir, "esky-wrap"))
	for _, b := range builds(t) {
		if b.kind == "glibc" && wanted.MatchString(b.line) {
			harness.CopyProgram(t, filepath.Join(programsDir(), "build", b.kind, b.argv[0]), filepath.Join(dir, b.argv[0]))
			lines += fmt.Sprintln(b.line, b.fate, strings.Join(b.argv, " "))
		}
	}
	harness.CopyProgram(t, "guest.sh", filepath.Join(dir, "guest.sh"))
	if err := os.WriteFile(filepath.Join(dir, "programs"), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"6.1", "6.12"} {
		t.Run(version, func(t *testing.T) {
			r := guest.Run(t, guest.Config{Kernel: version, UID: 1000, Memory: 2048, Shares: []string{dir}, Limit: time.Hour, Modules: []string{"unix_diag"}},
				fmt.Sprintf("sh %s/guest.sh %s <%s/programs", dir, dir, dir))
			for line := range strings.Lines(lines) {
				name, _, _ := strings.Cut(line, " ")
				if !strings.Contains("\n"+r.Output, "\n"+name+" ok\n") {
					t.Errorf("%s is not carried", name)
				}
			}
			t.Log(r)
		})
	}
}

// TestMemoryLimit: what a memory cgroup of version 2 leaves a job decides how it is
// saved, and nobody is killed for it.
func TestMemoryLimit(t *testing.T) {
	if !harness.All() {
		t.Skip("fetches a kernel, and emulates a machine for minutes: ESKY_TEST=all")
	}
	dir := harness.Dir(t)
	harness.CopyProgram(t, harness.Wrap(), filepath.Join(dir, "esky-wrap"))
	harness.CopyProgram(t, "memory.sh", filepath.Join(dir, "memory.sh"))
	for limit, c := range map[int]struct{ says, saysNot, status string }{
		400: {"checkpoint: status 0", "stands still", "0"},
		160: {"stands still while its memory is written: no snapshot of pid", "refused", "0"},
		110: {"the job's memory limit leaves", "stands still", "69"},
	} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			r := guest.Run(t, guest.Config{Kernel: "6.1", Memory: 2048, Shares: []string{dir}, Limit: time.Hour},
				fmt.Sprintf("sh %s/memory.sh %s %d", dir, dir, limit))
			for _, want := range []string{c.says, "checkpoint: status " + c.status + "\n", "all there", "oom_kill 0\n"} {
				if !strings.Contains(r.Output, want) {
					t.Errorf("nothing is said of %q", want)
				}
			}
			if strings.Contains(r.Output, c.saysNot) {
				t.Errorf("it is said that %q", c.saysNot)
			}
			t.Log(r)
		})
	}
}
