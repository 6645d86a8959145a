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
	for some := range slices.Chunk(d.procs, atATime) {
		if err := forkAll(some); err != nil {
			return err
		}
	}
	return nil
}

// atATime is how many processes make their snapshots side by side, as the host may
// have more CPUs than ours. All of them at once might be too many tasks for it.
const atATime = 16

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

// forker makes the snapshot of one process, unseen by it. A child of its own
// would show in its waits and its process list; so a helper that shares its
// memory (CLONE_VM, no signal at its end) makes the snapshot and ends, which
// leaves the snapshot to the job's init. The snapshot never runs: it stays in
// the stop in which it is born, and dies with its tracer.
type forker struct {
	*process
	helper int // host pid, 0 until there is one
	nsPid  uint64
	ended  bool          // the helper
	batch  *tracee.Batch // that runs
	err    error         // the first
}

// forkAll makes the snapshots of some processes, step by step.
func forkAll(procs []*process) error {
	var all []*forker
	for _, q := range procs {
		all = append(all, &forker{process: q})
	}
	for _, step := range []struct{ start, finish func(*forker) error }{
		{(*forker).startHelper, (*forker).finishHelper},
		{(*forker).startSnapshot, (*forker).finishSnapshot},
		{(*forker).endHelper, (*forker).awaitHelper},
		{(*forker).reapHelper, (*forker).finishBatch},
	} {
		for _, f := range all {
			f.do(step.start)
		}
		for _, f := range all {
			if f.batch != nil {
				f.do(step.finish)
				f.batch = nil
			}
		}
	}
	for _, f := range all {
		if f.err != nil {
			return f.err
		}
	}
	return nil
}

// do takes a step, also after an error: a helper that is there has to end.
func (f *forker) do(step func(*forker) error) {
	if err := step(f); err != nil && f.err == nil {
		f.err = err
	}
}

// run starts calls in the leader, or in the helper.
func (f *forker) run(in int, at uint64, calls ...*tracee.Call) error {
	b := f.process.batch(f.Leader(), at, calls...)
	b.Tid = in
	if err := b.Start(f.stub.Code); err != nil {
		return err
	}
	f.batch = b
	return nil
}

func (f *forker) finishBatch() error { return f.batch.Await() }

func (f *forker) startHelper() error {
	return f.run(f.Leader().HostTid, 0, tracee.Sys("clone", unix.SYS_CLONE, unix.CLONE_VM))
}

func (f *forker) finishHelper() error {
	if err := f.finishBatch(); err != nil {
		return f.noRoom(err)
	}
	f.helper, f.nsPid = f.batch.Born[0], uint64(f.batch.Calls[0].Result)
	return nil
}

// startSnapshot runs in the helper: it closes its copies of the descriptors first,
// so that the snapshot holds no end of a pipe open and no lock.
func (f *forker) startSnapshot() error {
	if f.helper == 0 {
		return nil
	}
	if err := tracee.SetSigmask(f.helper, ^uint64(1<<(unix.SIGTRAP-1))); err != nil {
		return err
	}
	return f.run(f.helper, helperAt,
		tracee.Sys("close_range", unix.SYS_CLOSE_RANGE, 0, uint64(^uint32(0)), 0),
		tracee.Sys("fork", unix.SYS_CLONE, 0))
}

func (f *forker) finishSnapshot() error {
	if err := f.finishBatch(); err != nil {
		return f.noRoom(err)
	}
	f.snapshot = f.batch.Born[0]
	return nil
}

// endHelper ends the helper; its parent has to wait for it, or it would stay a
// zombie.
func (f *forker) endHelper() error {
	if f.helper == 0 {
		return nil
	}
	return f.run(f.helper, helperAt, tracee.Sys("exit", unix.SYS_EXIT, 0))
}

func (f *forker) awaitHelper() error {
	for {
		s, err := tracee.Wait(f.helper)
		if f.ended = err == nil && s.Ended(); f.ended || err != nil {
			return err
		}
		if err := tracee.Cont(f.helper, 0); err != nil {
			return err
		}
	}
}

func (f *forker) reapHelper() error {
	if !f.ended {
		return nil
	}
	return f.run(f.Leader().HostTid, 0, tracee.Sys("wait4", unix.SYS_WAIT4, f.nsPid, 0, unix.WALL, 0))
}

func (q *process) noRoom(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) {
		return &noRoomError{q.Pid, err}
	}
	return fmt.Errorf("snapshot pid %d: %w", q.Pid, err)
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
