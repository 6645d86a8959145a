// SPDX-License-Identifier: Apache-2.0

package state

import (
	"slices"

	"github.com/esky-hpc/esky/test/harness"
)

// inShimMode are the programs that every run drives without namespaces too: those
// whose state has to do with process numbers, clocks, signals, names and powers.
// With harness.All() it is all of them.
var inShimMode = map[string]bool{
	"tree": true, "orphan": true, "zombie": true, "pidfd": true, "stopped": true, "stopped-unnoticed": true,
	"mem-shared": true, "mem-cow": true, "sig-actions": true, "sig-pending": true, "sig-trap": true, "itimers": true,
	"posix-timers": true, "timerfd": true, "pipes-between": true, "epoll": true, "sock-between": true,
	"block-nanosleep": true, "block-clock_nanosleep-abs": true, "block-poll": true, "api-checkpoint": true,
	"cpu-syscall": true, "usock-listeners": true, "usock-stream": true, "usock-dgram": true, "usock-rights": true,
	"files-proc": true, "spawn": true, "locks-posix": true, "async": true, "pids": true,
	"main-ended": true, "early": true, "threads": true, "futex-robust": true, "futex-pi": true, "futex-pi-owner": true, "lock-owners": true,
	"lock-loader": true, "pty": true, "pty-session": true, "pty-background": true,
}

// notInShimMode leaves out what only a run of everything drives. A program that is
// refused is refused in a moment.
func (b build) notInShimMode() bool {
	return b.leftOutInShimMode() || !harness.All() && b.shim == "" && !inShimMode[b.line]
}

// leftOutInShimMode are static programs that see something else there, or of which
// nothing tells that they use objects of the host.
func (b build) leftOutInShimMode() bool {
	return b.kind == "static" && (b.sees != "" || b.line == "sysv-sem" || b.line == "sysv-msg")
}

// ownNumbers runs a command in a pid namespace of its own, with few numbers, over
// which it has no power: what needs its old process numbers gets them there soon, and
// meets nobody else's, so that there is no second try. What is resumed begins to count before those of the first run.
var ownNumbers = []string{"unshare", "--user", "--map-current-user", "--keep-caps", "--pid", "--fork", "--mount-proc", "sh", "-c",
	`first=2000
	[ -d store/job ] && first=300
	echo 4000 2>/dev/null >/proc/sys/kernel/pid_max # not before Linux 6.14
	echo $first >/proc/sys/kernel/ns_last_pid
	exec setpriv --ambient-caps=-all "$@"`, "sh"}

// driveShim is a cell of the column of jobs that have no namespaces.
func driveShim(j *harness.Job, messages *refusals, b build, w way) {
	j.T.Helper()
	j.Flags = append(j.Flags, "--mode", "shim")
	if b.shim != "" {
		b.fate, b.words, messages = "refused", b.shim, &refusals{} // its words are in the document
	}
	if b.kind == "static" { // which has no library that translates
		if o := j.Command(append(slices.Clone(ownNumbers), "true")...); o.Status != 0 {
			j.T.Skipf("no pid namespace with a /proc of its own here: %s", o)
		}
		j.Under = ownNumbers
	}
	drive(j, messages, b, w)
}
