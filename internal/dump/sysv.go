// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/agent"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Commands that golang.org/x/sys/unix does not have (linux/shm.h, sem.h, msg.h).
const (
	shmInfo    = 14
	shmStatAny = 15
	semInfo    = 19
	semStatAny = 20
	semGetAll  = 13
	semGetPid  = 11
	msgInfo    = 12
	msgStatAny = 13
	msgCopy    = 0o40000
	shmRdonly  = 0o10000
)

// statLen is room for any of shmid64_ds, semid64_ds, msqid64_ds.
const statLen = 128

// collectIPC describes the System V objects of the job's IPC namespace. That of
// the host is nobody's: a job which lives there keeps what it finds.
func (d *Dump) collectIPC() error {
	if d.agent == nil {
		return nil
	}
	for _, step := range []func() error{d.collectSegments, d.collectSemaphores, d.collectQueues, d.collectPosixQueues} {
		if err := step(); err != nil {
			return err
		}
		d.agent.Reset()
	}
	return nil
}

// sysvObjects lists the objects of one kind: by the index that SHM_STAT_ANY and
// its like take, the id, which is their result, and the struct.
func (d *Dump) sysvObjects(what string, nr uintptr, info, stat uint64) (ids []int32, structs [][]byte, err error) {
	a := d.agent
	call := func(index, command, at uint64) *tracee.Call {
		if nr == unix.SYS_SEMCTL {
			return tracee.Sys(what, nr, index, 0, command, at)
		}
		return tracee.Sys(what, nr, index, command, at)
	}
	highest := call(0, info, a.New(statLen))
	if err := a.Do(highest); err != nil {
		return nil, nil, err
	}
	for from := int64(0); from <= highest.Result; from += agent.MaxCalls {
		var calls []*tracee.Call
		first := a.New(int(min(agent.MaxCalls, highest.Result+1-from)) * statLen)
		for i := from; i <= highest.Result && i < from+agent.MaxCalls; i++ {
			calls = append(calls, call(uint64(i), stat, first+uint64(i-from)*statLen))
		}
		if err := a.Do(calls...); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: none at this index
			return nil, nil, err
		}
		all, err := a.Read(first, len(calls)*statLen)
		if err != nil {
			return nil, nil, err
		}
		for i, c := range calls {
			if err := c.Err(); err == nil {
				ids, structs = append(ids, int32(c.Result)), append(structs, all[i*statLen:(i+1)*statLen])
			} else if !errors.Is(err, unix.EINVAL) {
				return nil, nil, err
			}
		}
		a.Reset()
	}
	return ids, structs, nil
}

// pidOf is the job's number of a process that the agent knows by the host's; 0
// if it is gone, since a dead process has no number any more for us to ask for.
func (d *Dump) pidOf(hostPid uint32) int32 {
	for _, p := range d.frozen.Processes {
		if p.HostPid == int(hostPid) {
			return int32(p.Pid)
		}
	}
	return 0
}

// ipcPerm reads struct ipc64_perm.
func ipcPerm(id int32, b []byte) *imagepb.IpcPerm {
	return &imagepb.IpcPerm{Id: id, Key: int32(le32(b)), Uid: le32(b[4:]), Gid: le32(b[8:]), Mode: le32(b[20:])}
}

func (d *Dump) collectSegments() error {
	ids, structs, err := d.sysvObjects("shmctl", unix.SYS_SHMCTL, shmInfo, shmStatAny)
	for i, b := range structs {
		d.meta.SysvSegments = append(d.meta.SysvSegments, &imagepb.SysvSegment{
			Perm: ipcPerm(ids[i], b), Size: le64(b[48:]), CreatorPid: d.pidOf(le32(b[80:])),
		})
	}
	return err
}

// segmentObject finds the object of a mapping of a System V segment, whose inode
// number is its id (proc_pid_maps(5)).
func (d *Dump) segmentObject(m *procfs.Mapping) (*object, error) {
	for i, s := range d.meta.SysvSegments {
		if uint64(s.Perm.Id) == m.Ino {
			return d.segment(uint32(i)), nil
		}
	}
	where := "and no segment of the job: it was made outside"
	if d.o.Tree.Adopted() {
		where = "a segment of the host: a job has System V objects of its own only if it was started by esky-wrap"
	}
	return nil, &RefusedError{Reasons: []string{fmt.Sprintf("%s is mapped at %#x, %s", m.Path, m.Start, where)}}
}

// sysvDev keeps the ids of segments apart from inode numbers.
const sysvDev = ^uint64(0)

func (d *Dump) segment(index uint32) *object {
	s := d.meta.SysvSegments[index]
	o := d.object(sysvDev, uint64(s.Perm.Id))
	if o.pb.Name == "" {
		o.pb.Kind, o.pb.SysvSegment, o.pb.Name = imagepb.Object_SYSV, index, fmt.Sprintf("shared memory segment %d", s.Perm.Id)
		o.pb.Size = (s.Size + pages.PageSize - 1) &^ (pages.PageSize - 1)
	}
	return o
}

// viewSegments lets the agent attach the segments that no process maps, or none
// wholly, to read them.
func (d *Dump) viewSegments() error {
	for i := range d.meta.SysvSegments {
		o := d.segment(uint32(i))
		rest := []pages.Range{{End: o.pb.Size}}
		for _, v := range o.views {
			var next []pages.Range
			for _, r := range rest {
				next = append(next, without(r, []pages.Range{{Start: v.offset, End: v.offset + v.length}})...)
			}
			rest = next
		}
		if len(rest) == 0 {
			continue
		}
		attach := tracee.Sys("shmat", unix.SYS_SHMAT, uint64(d.meta.SysvSegments[i].Perm.Id), 0, shmRdonly)
		if err := d.agent.Do(attach); err != nil {
			return fmt.Errorf("look into %s: %w", o.pb.Name, err)
		}
		if d.agentProcess == nil {
			mem, err := pages.OpenMemory(d.agent.Pid)
			if err != nil {
				return err
			}
			d.agentProcess = &process{mem: mem}
		}
		o.views = append(o.views, view{d.agentProcess, uint64(attach.Result), 0, o.pb.Size})
	}
	return nil
}

func isSegment(m *procfs.Mapping) bool { return m.Deleted && strings.HasPrefix(m.Path, "/SYSV") }

func (d *Dump) collectSemaphores() error {
	ids, structs, err := d.sysvObjects("semctl", unix.SYS_SEMCTL, semInfo, semStatAny)
	if err != nil {
		return err
	}
	for i, b := range structs {
		s := &imagepb.SysvSemaphores{Perm: ipcPerm(ids[i], b)}
		if err := d.readSemaphores(s, int(le64(b[80:]))); err != nil {
			return fmt.Errorf("semaphores %d: %w", ids[i], err)
		}
		d.meta.SysvSemaphores = append(d.meta.SysvSemaphores, s)
	}
	return nil
}

func (d *Dump) readSemaphores(s *imagepb.SysvSemaphores, n int) error {
	a := d.agent
	a.Reset()
	values := a.New(2 * n)
	calls := []*tracee.Call{tracee.Sys("semctl GETALL", unix.SYS_SEMCTL, uint64(s.Perm.Id), 0, semGetAll, values)}
	for i := range n {
		calls = append(calls, tracee.Sys("semctl GETPID", unix.SYS_SEMCTL, uint64(s.Perm.Id), uint64(i), semGetPid))
	}
	if err := a.Do(calls...); err != nil {
		return err
	}
	b, err := a.Read(values, 2*n)
	if err != nil {
		return err
	}
	for i, c := range calls[1:] {
		s.Values = append(s.Values, uint32(b[2*i])|uint32(b[2*i+1])<<8)
		s.Pids = append(s.Pids, d.pidOf(uint32(c.Result)))
	}
	return nil
}

func (d *Dump) collectQueues() error {
	ids, structs, err := d.sysvObjects("msgctl", unix.SYS_MSGCTL, msgInfo, msgStatAny)
	if err != nil {
		return err
	}
	for i, b := range structs {
		q := &imagepb.SysvQueue{
			Perm: ipcPerm(ids[i], b), MaxBytes: le64(b[88:]),
			LastSender: d.pidOf(le32(b[96:])), LastReceiver: d.pidOf(le32(b[100:])),
		}
		if err := d.peekQueue(q, int(le64(b[80:])), int(le64(b[72:]))); err != nil {
			return fmt.Errorf("message queue %d: %w", ids[i], err)
		}
		d.meta.SysvQueues = append(d.meta.SysvQueues, q)
	}
	return nil
}

// longestMessage is what a resume can send again: it has a buffer of 256 KiB. The
// kernel's own limits are 8 KiB unless root has raised them (kernel.msgmax,
// fs.mqueue.msgsize_max).
const longestMessage = 256<<10 - 64

func messageTooLong(queue string, length int) error {
	if length <= longestMessage {
		return nil
	}
	return &RefusedError{Reasons: []string{fmt.Sprintf("message queue %s has a message of %d bytes, more than the %d that can be sent again: receive it first",
		queue, length, longestMessage)}}
}

// peekQueue copies n messages, of so many bytes in all, by MSG_COPY of
// msgrcv(2), which takes nothing out.
func (d *Dump) peekQueue(q *imagepb.SysvQueue, n, bytes int) error {
	a := d.agent
	const typeLen = 8
	wave := max(1, min(256, agent.DataSize/(typeLen+bytes+16)))
	for from := 0; from < n; from += wave {
		a.Reset()
		var calls []*tracee.Call
		var at []uint64
		room := typeLen + bytes
		for i := from; i < min(n, from+wave); i++ {
			to := a.New(room)
			at = append(at, to)
			calls = append(calls, tracee.Sys("msgrcv", unix.SYS_MSGRCV, uint64(q.Perm.Id), to, uint64(bytes), uint64(i), msgCopy|unix.IPC_NOWAIT))
		}
		if err := a.Do(calls...); errors.Is(err, unix.ENOSYS) {
			return &RefusedError{Reasons: []string{fmt.Sprintf("message queue %d has messages, and this kernel does not let them be read (CONFIG_CHECKPOINT_RESTORE)", q.Perm.Id)}}
		} else if err != nil {
			return err
		}
		for i, c := range calls {
			b, err := a.Read(at[i], typeLen+int(c.Result))
			if err != nil {
				return err
			}
			if err := messageTooLong(fmt.Sprint(q.Perm.Id), len(b)-typeLen); err != nil {
				return err
			}
			q.Messages = append(q.Messages, &imagepb.SysvMessage{Type: int64(le64(b)), Text: b[typeLen:]})
		}
	}
	return nil
}
