// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// A limit is a memory cgroup of the test's own.
type limit struct {
	t          *testing.T
	dir        string
	max, usage string // names of its files
}

// newLimit makes one, in either version of cgroups; only root can, and only where
// it may write there.
func newLimit(t *testing.T) *limit {
	t.Helper()
	for _, l := range []*limit{
		{t, "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
		{t, "/sys/fs/cgroup", "memory.max", "memory.current"},
	} {
		l.dir = filepath.Join(l.dir, fmt.Sprintf("esky-test-%d", os.Getpid()))
		if os.Mkdir(l.dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(l.dir) })
		if _, err := os.Stat(filepath.Join(l.dir, l.max)); err == nil {
			return l
		}
	}
	t.Skip("no memory cgroup can be made here: run as root, on a host or in a container that may")
	return nil
}

// leave sets the limit to what is used and so much more.
func (l *limit) leave(more int) {
	l.t.Helper()
	used, err := os.ReadFile(filepath.Join(l.dir, l.usage))
	if err != nil {
		l.t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(used)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(l.max, n+more)
}

func (l *limit) write(file string, n int) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, file), []byte(strconv.Itoa(n)), 0); err != nil {
		l.t.Fatal(err)
	}
}

// writer writes to all of its memory all the time, so that a snapshot soon costs as
// much as it has.
const writer = `
import os
size = 200 << 20
b, n = bytearray(size), 0
while not os.path.exists("go"):
    n = (n + 1) & 255
    for i in range(0, size, 4096):
        b[i] = n
    if n == 1:
        open("ready", "w").write("x")
print("right" if all(b[i] == n for i in range(0, size, 4096)) else "wrong")
`

// TestMemoryLimit makes checkpoints of a job that is close to its memory limit: a
// snapshot would have it killed, so it stands still meanwhile; and where there is
// no room for esky either, the checkpoint is refused.
func TestMemoryLimit(t *testing.T) {
	harness.Need(t, "python3", "python3")
	l := newLimit(t)
	j := harness.NewJob(t, "python3", "-c", writer)
	j.Under = []string{"sh", "-c", `until [ -e in ]; do sleep 0.05; done; exec "$@"`, "sh"}
	r := j.Start()
	l.write("cgroup.procs", r.Pid())
	j.Write("in", "")
	r.Until("the program writes", func() bool { return j.Read("ready") != "" })
	j.Under = nil
	j.Checkpoint()
	if strings.Contains(r.Stderr(), "memory limit") {
		t.Errorf("without a limit: %s", r.Stderr())
	}
	l.leave(100 << 20)
	j.Checkpoint()
	if want := "stands still while its memory is written: "; !strings.Contains(r.Stderr(), want) || !strings.Contains(r.Stderr(), "memory limit leaves") {
		t.Errorf("a limit that a snapshot would reach: want %q: %s", want, r.Stderr())
	}
	l.leave(8 << 20)
	if o := j.TryCheckpoint(); o.Status != harness.ExitHost || !strings.Contains(o.Stderr, "give the job more memory") {
		t.Errorf("a limit that leaves nothing: %s", o)
	}
	j.Write("go", "")
	r.WaitFor(0)
	if got := j.Read("stdout"); got != "right\n" {
		t.Errorf("the program says %q", got)
	}
}
