// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// proc is a process of the job in the making.
type proc struct {
	*task
	node    *Node
	pb      *imagepb.Process
	threads []*task // as pb.Threads; the first is the task itself
	reaper  *proc   // of a ghost that is not a child of the init
	insn    uint64  // a syscall instruction in its vDSO, once that is in place
}

// makeTree makes all processes. Each is born stopped, a copy of its maker.
func (r *restorer) makeTree() error {
	for _, n := range r.plan.Roots {
		if err := r.make(n, r.seed, true); err != nil {
			return err
		}
	}
	return r.groups()
}

// make clones a process off maker, with its pid, and its children off it.
func (r *restorer) make(n *Node, maker *task, asSibling bool) error {
	child, err := cloneProcess(maker, n.Pid, asSibling)
	if err != nil {
		return fmt.Errorf("make pid %d: %w", n.Pid, err)
	}
	p := &proc{task: child, node: n, pb: n.P}
	r.procs = append(r.procs, p)
	for _, c := range n.Before {
		if err := r.make(c, p.task, false); err != nil {
			return err
		}
	}
	if n.NewSid {
		s := p.script()
		s.add("setsid", unix.SYS_SETSID)
		if err := s.do(); err != nil {
			return fmt.Errorf("pid %d: %w", n.Pid, err)
		}
	}
	for _, c := range n.After {
		if err := r.makeMember(c, p, asSibling); err != nil {
			return err
		}
	}
	return nil
}

// makeMember makes a process that p has to make, because it is in p's session. One
// that is to be a child of the init is made as p's sibling, if p is such a child
// itself; else as the child of a ghost, whose end makes it an orphan, as it was.
func (r *restorer) makeMember(c *Node, p *proc, pIsRoot bool) error {
	orphan := c.P != nil && c.P.Ppid == 1
	switch {
	case (orphan || c.Ghost) && pIsRoot:
		return r.make(c, p.task, true)
	case orphan && p.node.Ghost:
		return r.make(c, p.task, false)
	case orphan:
		r.plan.LastPid++
		return r.makeMember(&Node{Pid: r.plan.LastPid, Ghost: true, After: []*Node{c}}, p, false)
	}
	before := len(r.procs)
	if err := r.make(c, p.task, false); err != nil {
		return err
	}
	if c.Ghost {
		r.procs[before].reaper = p
	}
	return nil
}

// cloneProcess uses clone3(2) with set_tid, which gives the child a chosen pid.
// A sibling (CLONE_PARENT) inherits our exit signal and must not name one.
func cloneProcess(maker *task, pid int, asSibling bool) (*task, error) {
	s := maker.script()
	tids := s.words(uint64(pid))
	flags, exitSignal := uint64(0), uint64(unix.SIGCHLD)
	if asSibling {
		flags, exitSignal = unix.CLONE_PARENT, 0
	}
	args := s.words(flags, 0, 0, 0, exitSignal, 0, 0, 0, tids, 1, 0)
	s.add("clone3", unix.SYS_CLONE3, args, 11*8)
	born, err := s.run()
	if errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("the pid is taken: %w", err)
	}
	if err != nil {
		return nil, err
	}
	host := born[0]
	if err := tracee.SetSigmask(host, allButTrap); err != nil {
		return nil, err
	}
	return &task{host: host, pid: host, stub: maker.stub, regs: maker.regs, room: areaLen}, nil
}

const allButTrap = ^uint64(1 << (unix.SIGTRAP - 1))

// groups puts every process into its process group: first the leaders make
// theirs, then the others join.
func (r *restorer) groups() error {
	for _, leaders := range []bool{true, false} {
		for _, p := range r.procs {
			pgid := 0
			switch {
			case leaders != p.node.NewGroup, p.node.NewSid, p.pb != nil && p.pb.State == imagepb.Process_ZOMBIE && p.pb.Pgid == 0:
				continue
			case !leaders && p.pb == nil:
				continue
			case !leaders:
				pgid = int(p.pb.Pgid)
			}
			s := p.script()
			s.add("setpgid", unix.SYS_SETPGID, 0, uint64(pgid))
			if err := s.do(); err != nil {
				return fmt.Errorf("pid %d: group %d: %w", p.node.Pid, pgid, err)
			}
		}
	}
	return nil
}

// reap waits for a dead ghost that was a child of p; one without a reaper was a
// child of the init, which reaps it.
func (p *proc) reap(pid int) error {
	if p == nil {
		return nil
	}
	s := p.script()
	s.add("wait4", unix.SYS_WAIT4, uint64(pid), 0, unix.WALL, 0)
	return s.do()
}

// endGhosts ends the processes that were there only to lead.
func (r *restorer) endGhosts() error {
	kept := r.procs[:0]
	for _, p := range r.procs {
		if p.node.Ghost {
			if err := kill(p.host); err != nil {
				return err
			}
			if err := p.reaper.reap(p.node.Pid); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, p)
	}
	r.procs = kept
	return nil
}

// kill ends a tracee and waits until it is dead: what is left of it would keep
// the namespace alive.
func kill(host int) error {
	if err := unix.Kill(host, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return err
	}
	for {
		s, err := tracee.Wait(host)
		if err != nil || s.Ended() {
			return nil
		}
	}
}

// setLastPid makes the namespace go on numbering behind the job's pids.
func (r *restorer) setLastPid() error {
	s := r.seed.script()
	text := strconv.Itoa(r.plan.LastPid)
	s.add("open ns_last_pid", unix.SYS_OPENAT, atFdCwd, s.string("/proc/sys/kernel/ns_last_pid"), unix.O_WRONLY, 0)
	s.add("write ns_last_pid", unix.SYS_WRITE, 3, s.string(text), uint64(len(text)))
	s.add("close", unix.SYS_CLOSE, 3)
	return s.do()
}

const atFdCwd = ^uint64(99) // AT_FDCWD, -100
