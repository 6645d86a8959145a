// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// preflightThreads looks at all threads of a running process.
func preflightThreads(pid int, leader *procfs.Status) []string {
	tids, err := procfs.Tasks(pid)
	if err != nil {
		return nil
	}
	for _, tid := range tids {
		status, err := procfs.ReadStatus(pid, tid)
		if err != nil {
			continue // it has just ended
		}
		why := refuseThread(leader, &status)
		if status.TracerPid != 0 {
			why = (&freeze.TracedError{Pid: last(leader.NSpid), Comm: leader.Name, Tracer: status.TracerPid}).Error()
		}
		if why != "" {
			return []string{why} // the others are mostly the same
		}
	}
	return nil
}

// refuseThreads looks at the threads of a frozen process. None of them has made
// a system call of ours yet, which a filter might answer by killing it.
func refuseThreads(p *freeze.Process) []string {
	for _, t := range p.Threads {
		why := refuseThread(&p.Status, &t.Status)
		if why == "" && tracee.DispatchesSyscalls(t.HostTid) {
			why = fmt.Sprintf("pid %d (%s) has its system calls dispatched to itself (PR_SET_SYSCALL_USER_DISPATCH), which is not carried yet", p.Pid, p.Stat.Comm)
		}
		if why == "" && t != p.Leader() {
			why = refuseOwn(p, t)
		}
		if why != "" {
			return []string{why}
		}
	}
	return nil
}

// refuseThread checks what every thread has for itself: filters and credentials.
func refuseThread(leader, status *procfs.Status) string {
	who := fmt.Sprintf("pid %d (%s)", last(leader.NSpid), leader.Name)
	if status.Pid != leader.Pid {
		who = fmt.Sprintf("thread %d (%s) of pid %d", last(status.NSpid), status.Name, last(leader.NSpid))
	}
	switch status.Seccomp {
	case 0:
	case 1:
		return who + " is in the strict mode of seccomp(2)"
	default:
		return who + " has a seccomp filter: start the job outside of the container or sandbox, or tell the program not to filter"
	}
	uid := os.Getuid()
	for _, id := range status.Uid {
		if id != uid {
			return fmt.Sprintf("%s runs as uid %d, not as the job's owner %d", who, id, uid)
		}
	}
	if status.Gid != leader.Gid {
		return who + " has another group than its main thread"
	}
	return ""
}

// refuseOwn checks what a thread shares with its main thread unless it has asked
// not to (unshare(2)).
func refuseOwn(p *freeze.Process, t *freeze.Thread) string {
	if order, err := kcmp(p.Eye, t.HostTid, kcmpFiles, 0, 0); err == nil && order != 0 {
		return fmt.Sprintf("thread %d (%s) of pid %d has a table of descriptors of its own (unshare(2)), which is not carried yet", t.Tid, t.Status.Name, p.Pid)
	}
	return ""
}

// amxTiles says that matrix tiles (AMX) are in use in an extended state, whose
// header, behind the 512 bytes of FXSAVE, says what is not as at the start.
// A thread gets room for them only when it first uses them itself.
func amxTiles(xstate []byte) bool {
	const header, tileData = 512, 1 << 18
	return len(xstate) >= header+8 && binary.LittleEndian.Uint64(xstate[header:])&tileData != 0
}
