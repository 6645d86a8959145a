// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
)

// Flags and commands that golang.org/x/sys/unix does not have (linux/shm.h, sem.h).
const (
	shmDest   = 0o1000
	shmLocked = 0o2000
	shmRdonly = 0o10000
	shmExec   = 0o100000
	shmLock   = 11
	semUndo   = 0o10000
	ipcMode   = 0o777
)

// openIPC makes the System V objects, each by the process that the job's
// programs are told it was made by, where that lives.
func (r *restorer) openIPC() error {
	for _, s := range r.meta.SysvSegments {
		if err := r.makeObject(r.actor(s.CreatorPid), "shm", s.Perm, unix.SYS_SHMGET, s.Size); err != nil {
			return fmt.Errorf("shared memory segment %d: %w", s.Perm.Id, err)
		}
	}
	for _, s := range r.meta.SysvSemaphores {
		if err := r.openSemaphores(s); err != nil {
			return fmt.Errorf("semaphores %d: %w", s.Perm.Id, err)
		}
	}
	for _, q := range r.meta.SysvQueues {
		if err := r.openQueue(q); err != nil {
			return fmt.Errorf("message queue %d: %w", q.Perm.Id, err)
		}
	}
	return nil
}

// actor is the task of a process of the job; where that is gone, the seed.
func (r *restorer) actor(pid int32) *task {
	for _, p := range r.procs {
		if p.pb != nil && p.pb.Pid == pid {
			return p.task
		}
	}
	return r.seed
}

// makeObject makes an object with its id: the next one can be chosen by a file of
// /proc. Its permissions come last, for ours not to stand in the way.
func (r *restorer) makeObject(t *task, kind string, perm *imagepb.IpcPerm, nr uintptr, size ...uint64) error {
	s := t.script()
	id := strconv.Itoa(int(perm.Id))
	s.add("open "+kind+"_next_id", unix.SYS_OPENAT, atFdCwd, s.string("/proc/sys/kernel/"+kind+"_next_id"), unix.O_WRONLY, 0)
	s.add("choose the id", unix.SYS_WRITE, first, s.string(id), uint64(len(id)))
	s.add("close", unix.SYS_CLOSE, first)
	get := s.add(kind+"get", nr, append(append([]uint64{uint64(uint32(perm.Key))}, size...), unix.IPC_CREAT|unix.IPC_EXCL|0o600)...)
	if err := s.do(); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: ids can be chosen since Linux 5.19", err)
	} else if err != nil {
		return err
	}
	if get.Result != int64(perm.Id) {
		return fmt.Errorf("got the id %d", get.Result)
	}
	return nil
}

// sembuf is struct sembuf of semop(2).
func sembuf(b []byte, number uint32, op int, flags uint16) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(number))
	b = binary.LittleEndian.AppendUint16(b, uint16(int16(op)))
	return binary.LittleEndian.AppendUint16(b, flags)
}

// openSemaphores makes a set. First come the sums to be undone, since the call
// that sets a value forgets them; each value is then reached by an operation of
// the process that made the last one.
func (r *restorer) openSemaphores(set *imagepb.SysvSemaphores) error {
	if err := r.makeObject(r.seed, "sem", set.Perm, unix.SYS_SEMGET, uint64(len(set.Values))); err != nil {
		return err
	}
	op := func(t *task, ops []byte) error {
		s := t.script()
		s.add("semop", unix.SYS_SEMOP, uint64(set.Perm.Id), s.bytes(ops), uint64(len(ops)/6))
		return s.do()
	}
	for _, p := range r.procs {
		if p.pb == nil {
			continue
		}
		for _, u := range p.pb.SemUndo {
			if u.Id != set.Perm.Id {
				continue
			}
			for _, v := range halves(int(u.Value)) {
				ops := sembuf(sembuf(nil, u.Number, v, 0), u.Number, -v, semUndo)
				if v < 0 {
					ops = sembuf(sembuf(nil, u.Number, -v, semUndo), u.Number, v, 0)
				}
				if err := op(p.task, ops); err != nil {
					return err
				}
			}
		}
	}
	for i, v := range set.Values {
		if set.Pids[i] == 0 && v == 0 {
			continue
		}
		ops := sembuf(nil, uint32(i), int(v), 0)
		if v == 0 {
			ops = sembuf(sembuf(nil, uint32(i), 1, 0), uint32(i), -1, 0)
		}
		if err := op(r.actor(set.Pids[i]), ops); err != nil {
			return err
		}
	}
	return nil
}

// halves splits a sum that is too large for one operation.
func halves(v int) []int {
	if v == -32768 {
		return []int{-32767, -1}
	}
	return []int{v}
}

// openQueue makes a message queue. Its last sender and receiver send and receive.
func (r *restorer) openQueue(q *imagepb.SysvQueue) error {
	if err := r.makeObject(r.seed, "msg", q.Perm, unix.SYS_MSGGET); err != nil {
		return err
	}
	id := uint64(q.Perm.Id)
	send := func(t *task, kind int64, text []byte) error {
		s := t.script()
		s.add("msgsnd", unix.SYS_MSGSND, id, s.bytes(append(binary.LittleEndian.AppendUint64(nil, uint64(kind)), text...)), uint64(len(text)), unix.IPC_NOWAIT)
		return s.do()
	}
	if q.LastReceiver != 0 {
		if err := send(r.actor(q.LastSender), 1, nil); err != nil {
			return err
		}
		s := r.actor(q.LastReceiver).script()
		s.add("msgrcv", unix.SYS_MSGRCV, id, s.words(0), 0, 0, unix.IPC_NOWAIT)
		if err := s.do(); err != nil {
			return err
		}
	}
	s := r.seed.script()
	s.add("msgctl", unix.SYS_MSGCTL, id, unix.IPC_SET, s.bytes(encodePerm(q.Perm, 88, q.MaxBytes)))
	if err := s.do(); err != nil {
		return err
	}
	for _, m := range q.Messages {
		if err := send(r.actor(q.LastSender), m.Type, m.Text); err != nil {
			return fmt.Errorf("send %d bytes again: %w", len(m.Text), err)
		}
	}
	return nil
}

// encodePerm is what IPC_SET takes of the struct of an object: its owner and
// mode, and with at > 0 a word there, the size of a queue.
func encodePerm(perm *imagepb.IpcPerm, at int, word uint64) []byte {
	b := make([]byte, 128)
	binary.LittleEndian.PutUint32(b[4:], perm.Uid)
	binary.LittleEndian.PutUint32(b[8:], perm.Gid)
	binary.LittleEndian.PutUint32(b[20:], perm.Mode&ipcMode)
	if at > 0 {
		binary.LittleEndian.PutUint64(b[at:], word)
	}
	return b
}

// closeIPC gives the objects their permissions, and removes the segments that
// only those have that are attached to them.
func (r *restorer) closeIPC() error {
	for _, o := range r.meta.SysvSegments {
		s := r.live()[0].script()
		id, mode := uint64(o.Perm.Id), o.Perm.Mode
		s.add("shmctl", unix.SYS_SHMCTL, id, unix.IPC_SET, s.bytes(encodePerm(o.Perm, 0, 0)))
		if mode&shmDest != 0 {
			s.add("shmctl", unix.SYS_SHMCTL, id, unix.IPC_RMID, 0)
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("shared memory segment %d: %w", id, err)
		}
		if mode&shmLocked != 0 {
			s.add("shmctl", unix.SYS_SHMCTL, id, shmLock, 0)
			if err := s.do(); err != nil {
				r.note("shared memory segment %d is not locked into memory: %v", id, err)
			}
		}
	}
	for _, o := range r.meta.SysvSemaphores {
		s := r.live()[0].script()
		s.add("semctl", unix.SYS_SEMCTL, uint64(o.Perm.Id), 0, unix.IPC_SET, s.bytes(encodePerm(o.Perm, 0, 0)))
		if err := s.do(); err != nil {
			return fmt.Errorf("semaphores %d: %w", o.Perm.Id, err)
		}
	}
	for _, o := range r.meta.SysvQueues {
		s := r.live()[0].script()
		s.add("msgctl", unix.SYS_MSGCTL, uint64(o.Perm.Id), unix.IPC_SET, s.bytes(encodePerm(o.Perm, 88, o.MaxBytes)))
		if err := s.do(); err != nil {
			return fmt.Errorf("message queue %d: %w", o.Perm.Id, err)
		}
	}
	return nil
}

// attach maps a System V segment, or the part of one that a mapping is. It comes
// at its beginning or not at all, so a part is moved out of a whole.
func (p *proc) attach(r *restorer, v *imagepb.Vma) error {
	o := r.meta.Objects[v.Object]
	seg := r.meta.SysvSegments[o.SysvSegment]
	id, length := uint64(seg.Perm.Id), v.End-v.Start
	flags, prot := uint64(0), uint32(unix.PROT_READ|unix.PROT_WRITE)
	if !hasFlag(v, "mw") {
		flags, prot = shmRdonly, unix.PROT_READ
	}
	if v.Prot&unix.PROT_EXEC != 0 {
		flags |= shmExec
		prot |= unix.PROT_EXEC
	}
	s := p.script()
	if v.Offset == 0 && length == o.Size {
		s.add("shmat", unix.SYS_SHMAT, id, v.Start, flags)
	} else {
		whole := s.add("shmat", unix.SYS_SHMAT, id, 0, flags)
		if err := s.do(); err != nil {
			return err
		}
		at := uint64(whole.Result)
		s.add("move a part of a segment", unix.SYS_MREMAP, at+v.Offset, length, length, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, v.Start)
		if v.Offset > 0 {
			s.add("munmap", unix.SYS_MUNMAP, at, v.Offset)
		}
		if rest := o.Size - v.Offset - length; rest > 0 {
			s.add("munmap", unix.SYS_MUNMAP, at+v.Offset+length, rest)
		}
	}
	if v.Prot != prot {
		s.add("mprotect", unix.SYS_MPROTECT, v.Start, length, uint64(v.Prot))
	}
	return s.do()
}

// segment is a System V segment that a process holds for it to be filled.
type segment struct {
	holder *proc
	mem    *pages.Memory
	at     uint64
}

// holdSegments attaches all segments to one process while they are filled.
func (r *restorer) holdSegments() error {
	r.segments = map[uint32]segment{}
	for i, o := range r.meta.Objects {
		if o.Kind != imagepb.Object_SYSV {
			continue
		}
		p := r.live()[0]
		s := p.script()
		c := s.add("shmat", unix.SYS_SHMAT, uint64(r.meta.SysvSegments[o.SysvSegment].Perm.Id), 0, 0)
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", o.Name, err)
		}
		mem, err := pages.OpenMemory(p.host)
		if err != nil {
			return err
		}
		r.segments[uint32(i)] = segment{p, mem, uint64(c.Result)}
	}
	return nil
}

func (g segment) fill(b []byte, offset uint64) error { return g.mem.Fill(b, g.at+offset) }

func (r *restorer) releaseSegments() error {
	for _, g := range r.segments {
		s := g.holder.script()
		s.add("shmdt", unix.SYS_SHMDT, g.at)
		g.mem.Close()
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}
