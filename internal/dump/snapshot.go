// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// noRoomError says that the kernel would not fork a snapshot.
type noRoomError struct {
	pid int
	err error
}

func (e *noRoomError) Error() string { return fmt.Sprintf("no snapshot of pid %d: %v", e.pid, e.err) }
func (e *noRoomError) Unwrap() error { return e.err }

// snapshot forks every process, copy-on-write, so that its memory of this
// moment can be read while the job runs on.
func (d *Dump) snapshot() error {
	if d.hasSubreaper() {
		return &noRoomError{0, errors.New("a process of the job adopts orphans (PR_SET_CHILD_SUBREAPER) and would adopt the snapshots")}
	}
	for _, q := range d.procs {
		if slices.ContainsFunc(q.maps, func(m procfs.Mapping) bool { return isHuge(&m) }) {
			return &noRoomError{q.Pid, errors.New("it has huge pages (MAP_HUGETLB), of which there may be none to be had for a copy")}
		}
	}
	for _, q := range d.procs {
		if err := q.fork(); err != nil {
			return err
		}
	}
	return nil
}

// hugeAnonymous is what the kernel calls memory in huge pages that were asked for
// (MAP_HUGETLB) and that is no file.
const hugeAnonymous = "/anon_hugepage"

// isHuge says that a mapping is such memory and private. After a fork a process
// that writes to it may find that there is no page for a copy, which is its death
// (SIGBUS; Documentation/admin-guide/mm/hugetlbpage.rst).
func isHuge(m *procfs.Mapping) bool { return m.Path == hugeAnonymous && m.Deleted && !m.Shared() }

func (d *Dump) hasSubreaper() bool {
	for _, pb := range d.meta.Processes {
		if pb.ChildSubreaper {
			return true
		}
	}
	return false
}

// Where the helper's records are in the area, apart from the leader's.
const helperAt = 32 << 10

// fork makes the snapshot of one process, unseen by it. A child of its own
// would show in its waits and its process list; so a helper that shares its
// memory (CLONE_VM, no signal at its end) makes the snapshot and ends, which
// leaves the snapshot to the job's init. The snapshot never runs: it stays in
// the stop in which it is born, and dies with its tracer.
func (q *process) fork() error {
	clone := tracee.Sys("clone", unix.SYS_CLONE, unix.CLONE_VM)
	leader := q.batch(q.Leader(), 0, clone)
	if err := leader.Run(q.stub.Code); err != nil {
		return q.noRoom(err)
	}
	helper := leader.Born[0]
	err := q.forkFrom(helper)
	if endErr := q.endHelper(helper, uint64(clone.Result)); err == nil {
		err = endErr
	}
	return err
}

func (q *process) noRoom(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) {
		return &noRoomError{q.Pid, err}
	}
	return fmt.Errorf("snapshot pid %d: %w", q.Pid, err)
}

// forkFrom runs in the helper: it closes its copies of the descriptors first,
// so that the snapshot holds no end of a pipe open and no lock.
func (q *process) forkFrom(helper int) error {
	b := &tracee.Batch{
		Tid: helper, Pid: q.Eye, Base: q.Leader().Regs, Records: q.stub.Area + helperAt,
		Calls: []*tracee.Call{
			tracee.Sys("close_range", unix.SYS_CLOSE_RANGE, 0, uint64(^uint32(0)), 0),
			tracee.Sys("fork", unix.SYS_CLONE, 0),
		},
	}
	if err := tracee.SetSigmask(helper, ^uint64(1<<(unix.SIGTRAP-1))); err != nil {
		return err
	}
	if err := b.Run(q.stub.Code); err != nil {
		return q.noRoom(err)
	}
	q.snapshot = b.Born[0]
	return nil
}

// endHelper ends the helper; its parent has to wait for it, or it would stay a
// zombie.
func (q *process) endHelper(helper int, nsPid uint64) error {
	b := &tracee.Batch{
		Tid: helper, Pid: q.Eye, Base: q.Leader().Regs, Records: q.stub.Area + helperAt,
		Calls: []*tracee.Call{tracee.Sys("exit", unix.SYS_EXIT, 0)},
	}
	if err := b.Start(q.stub.Code); err != nil {
		return err
	}
	for {
		s, err := tracee.Wait(helper)
		if err != nil {
			return err
		}
		if s.Ended() {
			break
		}
		if err := tracee.Cont(helper, 0); err != nil {
			return err
		}
	}
	return q.batch(q.Leader(), 0, tracee.Sys("wait4", unix.SYS_WAIT4, nsPid, 0, unix.WALL, 0)).Run(q.stub.Code)
}

// lostSnapshot says how a snapshot ended that nobody but us should end.
func (q *process) lostSnapshot() error {
	s, _, err := tracee.TryWait(q.snapshot, time.Now())
	if err == nil {
		err = tracee.ErrGone
	}
	return fmt.Errorf("the snapshot of pid %d (process %d of the host) has been ended from outside (%s): %w", q.Pid, q.snapshot, s, err)
}

// endSnapshots kills the snapshots and waits for them, so that no next freeze
// meets one.
func (d *Dump) endSnapshots() {
	for _, q := range d.procs {
		if q.snapshot == 0 {
			continue
		}
		_ = unix.Kill(q.snapshot, unix.SIGKILL)
		for {
			s, err := tracee.Wait(q.snapshot)
			if err != nil || s.Ended() {
				break
			}
		}
		q.snapshot = 0
	}
}
