// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// What the end of a process adds to a semaphore (SEM_UNDO of semop(2)) no call
// tells. But one that would take the sum out of the range of a short fails with
// ERANGE, before it is looked at whether the operation would have to wait; and
// one that would have to wait is taken back as a whole (IPC_NOWAIT, EAGAIN). So a
// semop that must fail in the one way or the other says whether the sum is above
// a number, and changes nothing.
const (
	semMax   = 32767   // SEMVMX, SEMAEM
	undoSpan = 1 << 16 // values that a sum may have
	semUndo  = 0o10000 // SEM_UNDO
	noWait   = 0o4000  // IPC_NOWAIT
	probeLen = 14 * 6  // struct sembuf, each of three shorts
	probes   = 256     // at a time
	sysvSem  = 6       // KCMP_SYSVSEM of kcmp(2)
)

// collectUndo finds the sums of a process. They belong to a list that only
// threads and those who have asked for one have; the agent has none.
func (d *Dump) collectUndo(q *process, pb *imagepb.Process) error {
	if d.agent == nil || len(d.meta.SysvSemaphores) == 0 {
		return nil
	}
	if order, err := kcmp(d.agent.Pid, q.Eye, sysvSem, 0, 0); err != nil || order == 0 {
		return err
	}
	if err := d.refuseForeignUndo(q); err != nil {
		return err
	}
	for _, s := range d.meta.SysvSemaphores {
		for from := 0; from < len(s.Values); from += probes {
			sums, err := q.undoSums(s, from, min(len(s.Values), from+probes))
			if err != nil {
				return fmt.Errorf("what its end does to semaphores %d: %w", s.Perm.Id, err)
			}
			for i, v := range sums {
				if v != 0 {
					pb.SemUndo = append(pb.SemUndo, &imagepb.SemUndo{Id: s.Perm.Id, Number: uint32(from + i), Value: v})
				}
			}
		}
	}
	return nil
}

// refuseForeignUndo refuses lists that are not one for all threads of a process
// and for nobody else, as only clone(2) by hand makes them.
func (d *Dump) refuseForeignUndo(q *process) error {
	for _, t := range q.Threads {
		if order, err := kcmp(q.Eye, t.HostTid, sysvSem, 0, 0); err != nil {
			return err
		} else if order != 0 {
			return &RefusedError{Reasons: []string{fmt.Sprintf("pid %d (%s): thread %d has semaphore undo values of its own (clone without CLONE_SYSVSEM)", q.Pid, q.Stat.Comm, t.Tid)}}
		}
	}
	for _, other := range d.procs {
		if other == q {
			break
		}
		if order, err := kcmp(q.Eye, other.Eye, sysvSem, 0, 0); err != nil {
			return err
		} else if order == 0 {
			return &RefusedError{Reasons: []string{fmt.Sprintf("pid %d (%s) shares its semaphore undo values with pid %d (clone with CLONE_SYSVSEM)", q.Pid, q.Stat.Comm, other.Pid)}}
		}
	}
	return nil
}

// undoSums searches the sums for the semaphores [from, to) of a set, all at the
// same time.
func (q *process) undoSums(s *imagepb.SysvSemaphores, from, to int) ([]int32, error) {
	type span struct{ below, above int } // the least total that is out of range is in (below, above]
	spans := make([]span, to-from)
	for i := range spans {
		spans[i] = span{0, undoSpan}
	}
	ask := func(total func(span) (int, bool)) error {
		var calls []*tracee.Call
		var of []int
		for i := range spans {
			t, wanted := total(spans[i])
			if !wanted {
				continue
			}
			ops := undoProbe(uint16(from+i), int(s.Values[from+i]), t)
			at := q.stub.Area + dataAt/2 + uint64(len(calls))*probeLen
			if err := q.mem.WriteAt(ops, at); err != nil {
				return err
			}
			calls = append(calls, tracee.Sys("semop", unix.SYS_SEMOP, uint64(s.Perm.Id), at, uint64(len(ops)/6)))
			of = append(of, i)
		}
		if len(calls) == 0 {
			return nil
		}
		_ = q.batch(q.Leader(), 0, calls...).Run(q.stub.Code) // each call fails
		for n, c := range calls {
			sp := &spans[of[n]]
			t, _ := total(*sp)
			switch err := c.Err(); {
			case errors.Is(err, unix.ERANGE):
				sp.above = min(sp.above, t)
			case errors.Is(err, unix.EAGAIN):
				sp.below = max(sp.below, t)
			case err == nil:
				return errors.New("an operation succeeded that must not")
			default:
				return err
			}
		}
		return nil
	}
	// Nearly all are zero, which two questions tell.
	for _, t := range []int{semMax, semMax + 1} {
		if err := ask(func(span) (int, bool) { return t, true }); err != nil {
			return nil, err
		}
	}
	for range 16 {
		if err := ask(func(s span) (int, bool) { return (s.below + s.above) / 2, s.above-s.below > 1 }); err != nil {
			return nil, err
		}
	}
	sums := make([]int32, len(spans))
	for i, sp := range spans {
		sums[i] = int32(semMax + 1 - sp.above)
	}
	return sums, nil
}

// undoProbe are operations on a semaphore that take total off it, to be undone,
// and put it back, not to be undone; the last must wait.
func undoProbe(number uint16, value, total int) []byte {
	var b []byte
	op := func(n int, flags uint16) {
		b = binary.LittleEndian.AppendUint16(b, number)
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(n)))
		b = binary.LittleEndian.AppendUint16(b, flags)
	}
	for total > 0 {
		k := min(total, max(value, semMax-value))
		if value >= k {
			op(-k, semUndo)
			op(k, 0)
		} else {
			op(k, 0)
			op(-k, semUndo)
		}
		total -= k
	}
	if value > 0 {
		op(0, noWait)
	} else {
		op(-1, noWait)
	}
	return b
}
