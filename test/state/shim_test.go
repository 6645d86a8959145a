// SPDX-License-Identifier: Apache-2.0

package state

import (
	"sync"

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
	"lock-loader": true,
}

// notStatic are programs that without the preload library, which a static one has
// not, see something else there, or are not seen to have it.
var notStatic = map[string]string{
	"pids":  "its parent is the init, which has another number",
	"clock": "the clocks are the host's",
	"tree":  "the parent of an orphan is the init", "orphan": "the same", "tree-random-1": "the same",
	"sysv-sem": "nothing tells that it uses semaphores", "sysv-msg": "nothing tells that it uses queues",
}

// notInShimMode leaves out what only a run of everything drives. A program that is
// refused is refused in a moment.
func (b build) notInShimMode() bool {
	switch {
	case b.kind == "static" && notStatic[b.line] != "":
		return true
	case harness.All() || b.shim != "":
		return false
	case b.kind == "static": // to come by its numbers again takes minutes
		return true
	}
	return !inShimMode[b.line]
}

// numbers is held by a job that waits for its old numbers: another one that did so,
// too, would use them up.
var numbers sync.Mutex

// driveShim is a cell of the column of jobs that have no namespaces.
func driveShim(j *harness.Job, messages *refusals, b build, w way) {
	j.T.Helper()
	j.Flags = append(j.Flags, "--mode", "shim")
	if b.shim != "" {
		b.fate, b.words, messages = "refused", b.shim, &refusals{} // its words are in the document
	}
	if b.kind == "static" && b.fate == "carried" { // which has no library that translates
		numbers.Lock()
		defer numbers.Unlock()
	}
	drive(j, messages, b, w)
}
