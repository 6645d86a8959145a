// SPDX-License-Identifier: Apache-2.0

// Package state takes the programs of test/programs away and brings them back.
// Each of them is in one kind of state and checks itself that it still is.
package state

import (
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// A way is what happens to a program between READY and go.
type way struct {
	name  string
	stops int  // how often it is taken away; 0: one checkpoint while it runs on
	alive bool // before it is taken away, one while it runs on
	bare  bool
	shim  bool // without namespaces
	adopt bool // started without esky; adopted while it runs on, adopted and ended, resumed
	crash bool // the image is made while it runs on, and then all is killed
}

// ways; the last is without the preload library, which a static program never
// has and a program that talks to it cannot do without.
var ways = []way{
	{name: "live"},
	{name: "stop", stops: 1},
	{name: "thrice", stops: 3, alive: true},
	{name: "bare", stops: 1, bare: true},
	{name: "adopt", stops: 1, adopt: true},
	{name: "crash", crash: true},
	{name: "shim", stops: 2, shim: true},
}

// notAdopted are programs that tell nothing, with the reason.
var notAdopted = map[string]string{
	"tree":          "a child in a session of its own loses its parent before it is adopted: it is nobody's",
	"tree-random-1": "the same", "tree-random-2": "the same", "tree-random-3": "the same",
	"block-semtimedop": "System V objects stay with the host",
	"sysv-sem":         "System V objects stay with the host", "sysv-sem-wait": "the same", "sysv-msg": "the same",
	"pids": "the parent is another after a resume",
}

// adoptRefuses are states that only a job in namespaces of its own can have.
var adoptRefuses = map[string]string{
	"dumpable": "is not dumpable", "sysv-shm": "a segment of the host", "vma-holes": "a segment of the host",
	"pty": "a terminal of the host", "pty-session": "a terminal of the host", "pty-background": "a terminal of the host",
	"mqueue": "a message queue of the host", "mqueue-notify": "a message queue of the host",
}

// without says that a way tells nothing of a program: one that talks to the
// preload library cannot do without; and what adopts knows nothing of libc.
func (b build) without(w way) bool {
	switch {
	case w.crash:
		return !snapshotTells(b)
	case w.bare:
		return b.kind == "static" || b.argv[0] == "api"
	case w.shim:
		return b.notInShimMode()
	case w.adopt:
		return b.kind == "musl" || b.argv[0] == "api" || notAdopted[b.line] != ""
	}
	return false
}

// TestState drives every program, in every build, each way.
func TestState(t *testing.T) {
	table := harness.NewTable(t, "state", "alone", "live", "stop", "thrice", "bare", "adopt", "shim", "crash")
	programs, messages := builds(t), &refusals{}
	t.Cleanup(func() { checkDoc(t, messages) })
	for _, b := range programs {
		t.Run(b.name(), func(t *testing.T) {
			t.Parallel()
			all(t, table, messages, b)
		})
	}
}

// ports is held by a program that has TCP or UDP ports of this host, which
// another one could be given while it is away; terminals by one that has some of the
// host's in shim mode.
var ports, terminals sync.Mutex

// all is one row of the matrix. What does not pass alone tells nothing about
// esky.
func all(t *testing.T, table *harness.Table, messages *refusals, b build) {
	table.Set(b.name(), "alone", "left out")
	binary := b.install(t)
	switch b.argv[0] {
	case "inet":
		ports.Lock()
		defer ports.Unlock()
	case "pty":
		terminals.Lock()
		defer terminals.Unlock()
	case "hugetlb":
		huge.Lock()
		t.Cleanup(huge.Unlock)
		harness.HugePages(t, 8)
	}
	table.Set(b.name(), "alone", "FAILED")
	j := b.job(t, binary)
	finish(j, j.StartBare())
	table.Set(b.name(), "alone", "ok")
	for _, w := range ways {
		if b.without(w) {
			table.Set(b.name(), w.name, "-")
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			table.Set(b.name(), w.name, "FAILED")
			defer func() {
				if t.Skipped() {
					table.Set(b.name(), w.name, "left out")
				}
			}()
			j := b.job(t, binary)
			if w.bare {
				j.Env = []string{"ESKY_PRELOAD=none"}
			}
			switch {
			case w.adopt:
				adopt(j, b)
			case w.shim:
				driveShim(j, messages, b, w)
				messages.prove(b)
			default:
				drive(j, messages, b, w)
			}
			table.Set(b.name(), w.name, "ok")
		})
	}
}

func (b build) job(t *testing.T, binary string) *harness.Job {
	t.Helper()
	return harness.NewJob(t, append([]string{binary, "status"}, b.argv[1:]...)...)
}

// snapshotTells says that the program is about memory, of which an image that is
// made while the job runs on has the word of a snapshot.
func snapshotTells(b build) bool {
	return b.fate == "carried" && (b.argv[0] == "mem" || b.argv[0] == "vma")
}

// drive is one cell of the matrix.
func drive(j *harness.Job, messages *refusals, b build, w way) {
	j.T.Helper()
	r := j.Start()
	ready(j, r)
	switch {
	case b.fate == "refused":
		messages.note(b, j.Dir, refused(j, r, w, b.words))
	case w.crash:
		j.Checkpoint()
		r.Crash()
		r = j.Start()
	case w.stops == 0:
		j.Checkpoint()
	}
	for n := 0; n < w.stops && b.fate == "carried"; n++ {
		if w.alive {
			j.Checkpoint()
		}
		j.Checkpoint("--stop")
		r.WaitFor(harness.ExitAgain)
		if left := harness.Of(j.Dir); len(left) > 0 {
			j.T.Fatalf("processes are left of a job that was stopped: %v", left)
		}
		if w.shim && j.Under == nil {
			r = j.StartAgain()
		} else {
			r = j.Start()
		}
	}
	finish(j, r)
}

// adopt is a cell of programs that run without esky.
func adopt(j *harness.Job, b build) {
	j.T.Helper()
	r := j.StartBeside()
	ready(j, r)
	pid := r.Child()
	first := j.Adopt(pid)
	words, refused := adoptRefuses[b.line]
	if b.fate == "refused" && !refused {
		words, refused = b.words, true
	}
	if refused {
		if first.Status != harness.ExitHost || !strings.Contains(first.Stderr, words) || r.Ended() {
			j.T.Fatalf("adoption of what cannot be carried: %s", first)
		}
		finish(j, r)
		return
	}
	for _, o := range []harness.Outcome{first, j.Adopt(pid, "--stop")} {
		if o.Status != 0 {
			j.T.Fatalf("esky-wrap adopt: %s", o)
		}
	}
	r.WaitFor(128 + int(syscall.SIGKILL))
	if left := harness.Of(j.Dir); len(left) > 0 {
		j.T.Fatalf("processes are left of a job that was ended: %v", left)
	}
	finish(j, j.Resume())
}

// refused asks for a checkpoint of a program whose state cannot be carried: it
// must be refused with the right reason, which it returns, and leave no image.
func refused(j *harness.Job, r *harness.Run, w way, words string) string {
	j.T.Helper()
	var flags []string
	if w.stops > 0 {
		flags = append(flags, "--stop")
	}
	o := j.TryCheckpoint(flags...)
	if o.Status != harness.ExitHost || !strings.Contains(o.Stderr, words) {
		j.T.Fatalf("checkpoint of what cannot be carried: %s", o)
	}
	if n := len(j.Generations()); n != 0 || r.Ended() {
		j.T.Fatalf("%d images of what cannot be carried; job ended: %v", n, r.Ended())
	}
	return o.Stderr
}

func ready(j *harness.Job, r *harness.Run) {
	j.T.Helper()
	r.Until("the program is READY", func() bool { return strings.Contains(j.Read("status"), "READY") })
}

// finish lets the program check itself and reads its verdict.
func finish(j *harness.Job, r *harness.Run) {
	j.T.Helper()
	ready(j, r)
	j.Write("status.go", "")
	status := r.Wait()
	verdict := strings.TrimSpace(j.Read("status.result"))
	if status != 0 || verdict != "PASS" {
		j.T.Fatalf("status %d, verdict %q\nstdout: %s\nesky said: %s", status, verdict, tail(j.Read("stdout")), tail(r.Stderr()))
	}
}

func tail(s string) string {
	if len(s) > 4000 {
		return "… " + s[len(s)-4000:]
	}
	return s
}
