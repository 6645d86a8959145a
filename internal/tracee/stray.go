// SPDX-License-Identifier: Apache-2.0

package tracee

import "golang.org/x/sys/unix"

// strays are the SIGTRAPs that somebody else sent to a thread while it worked
// for us: the one signal that can be neither blocked then nor passed on. Like
// all else here they belong to the tracer's only thread.
var strays = map[int]stray{}

type stray struct{ toThread bool }

// keepStray takes a SIGTRAP out of a thread that is about to get it.
func keepStray(tid int) {
	const siTkill = -6 // tkill(2) and tgkill(2), sigaction(2)
	if code, err := signalCode(tid); err == nil {
		strays[tid] = stray{toThread: code == siTkill}
	}
}

// SendStray sends the SIGTRAP again that a thread of a process should have got.
// Standard signals do not queue (signal(7)): one is all it can have missed. The
// sender it sees is another.
func SendStray(pid, tid int) {
	s, missed := strays[tid]
	if !missed {
		return
	}
	delete(strays, tid)
	if s.toThread {
		_ = unix.Tgkill(pid, tid, unix.SIGTRAP)
	} else {
		_ = unix.Kill(pid, unix.SIGTRAP)
	}
}
