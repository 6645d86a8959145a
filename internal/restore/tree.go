// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/family"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// proc is a process of the job in the making.
type proc struct {
	*task
	node     *family.Node
	pb       *imagepb.Process
	threads  []*task // as pb.Threads; the first is the task itself
	parent   *proc   // at its birth; nil: the init
	exeNamed bool    // /proc/PID/exe leads to its program
	insn     uint64  // a syscall instruction in its vDSO, once that is in place
}

// makeTree makes all processes. Each is born stopped, a copy of its maker.
func (r *restorer) makeTree() error {
	for _, n := range r.plan.Tree.Roots {
		if err := r.make(n, r.seed, nil, true); err != nil {
			return err
		}
	}
	if err := r.groups(); err != nil {
		return err
	}
	return r.setForeground()
}

// make clones a process off maker, with its pid, and its children off it. parent
// is whose child it is, nil for the init.
func (r *restorer) make(n *family.Node, maker *task, parent *proc, asSibling bool) error {
	child, err := r.cloneProcess(maker, n, asSibling)
	if err != nil {
		return fmt.Errorf("make pid %d: %w", n.Pid, err)
	}
	p := &proc{task: child, node: n, pb: n.P, parent: parent}
	r.procs = append(r.procs, p)
	if err := r.bequeath(p); err != nil {
		return fmt.Errorf("pid %d: memory for its children: %w", n.Pid, err)
	}
	if err := r.makeAll(n.Before, p); err != nil {
		return err
	}
	if n.NewSid {
		s := p.script()
		s.add("setsid", unix.SYS_SETSID)
		if err := s.do(); err != nil {
			return fmt.Errorf("pid %d: %w", n.Pid, err)
		}
		if err := r.takeTerminal(p); err != nil {
			return fmt.Errorf("pid %d: %w", n.Pid, err)
		}
	}
	return r.makeAll(n.After, p)
}

func (r *restorer) makeAll(nodes []*family.Node, p *proc) error {
	for _, c := range nodes {
		parent := p
		if c.Sibling {
			parent = p.parent
		}
		if err := r.make(c, p.task, parent, c.Sibling); err != nil {
			return err
		}
	}
	return nil
}

// cloneProcess makes a child of maker, or a sibling (CLONE_PARENT), which inherits
// maker's exit signal and must not name one.
func (r *restorer) cloneProcess(maker *task, n *family.Node, asSibling bool) (*task, error) {
	flags, exitSignal := sharing(n.Share), uint64(unix.SIGCHLD)
	if asSibling {
		flags, exitSignal = flags|unix.CLONE_PARENT, 0
	}
	host, err := r.clone(maker, n.Pid, flags, exitSignal)
	if err != nil {
		return nil, err
	}
	if err := tracee.SetSigmask(host, allButTrap); err != nil {
		return nil, err
	}
	return &task{host: host, pid: host, stub: maker.stub, regs: maker.regs, room: areaLen}, nil
}

// sharing is what clone(2) and unshare(2) call it.
func sharing(s family.Shared) (flags uint64) {
	if s&family.Files != 0 {
		flags |= unix.CLONE_FILES
	}
	if s&family.FS != 0 {
		flags |= unix.CLONE_FS
	}
	return flags
}

// unshare gives those their own who have come between processes that share.
func (r *restorer) unshare() error {
	for _, p := range r.procs {
		if p.node.Leave == 0 {
			continue
		}
		s := p.script()
		s.add("unshare", unix.SYS_UNSHARE, sharing(p.node.Leave))
		if err := s.do(); err != nil {
			return fmt.Errorf("pid %d: %w", p.node.Pid, err)
		}
	}
	return nil
}

// clone makes a process or thread with the number that the job knows it by.
func (r *restorer) clone(maker *task, id int, flags, exitSignal uint64) (int, error) {
	if ids.Shim() {
		return r.cloneAnyhow(maker, id, flags, exitSignal)
	}
	return cloneAs(maker, id, flags, exitSignal)
}

// cloneAs uses clone3(2) with set_tid, which gives the child a chosen number; 0
// is any.
func cloneAs(maker *task, id int, flags, exitSignal uint64) (int, error) {
	s := maker.script()
	tids, n := uint64(0), uint64(0)
	if id != 0 {
		tids, n = s.words(uint64(id)), 1
	}
	s.add("clone3", unix.SYS_CLONE3, s.words(flags, 0, 0, 0, exitSignal, 0, 0, 0, tids, n, 0), 11*8)
	born, err := s.run()
	if errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("the number is taken: %w", err)
	}
	if err != nil {
		return 0, err
	}
	return born[0], nil
}

const allButTrap = ^uint64(1 << (unix.SIGTRAP - 1))

// groups puts every process into its process group: first the leaders make
// theirs, then the others join, then leaders that have left theirs do so.
func (r *restorer) groups() error {
	var movers []*proc
	for _, p := range r.procs {
		if p.node.NewGroup {
			if err := p.setpgid(0); err != nil {
				return err
			}
		}
	}
	for _, p := range r.procs {
		switch {
		case p.pb == nil || p.node.NewSid || p.pb.Pgid == 0 || p.pb.Pgid == p.pb.Pid:
		case p.node.NewGroup:
			movers = append(movers, p)
		default:
			if err := p.setpgid(int(p.pb.Pgid)); err != nil {
				return err
			}
		}
	}
	for _, pid := range r.plan.Tree.Movers {
		for _, p := range movers {
			if p.node.Pid != pid {
				continue
			}
			if err := p.setpgid(int(p.pb.Pgid)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *proc) setpgid(pgid int) error {
	s := p.script()
	s.add("setpgid", unix.SYS_SETPGID, 0, real(pgid))
	if err := s.do(); err != nil {
		return fmt.Errorf("pid %d: group %d: %w", p.node.Pid, pgid, err)
	}
	return nil
}

// endGhosts ends the processes that were there only to lead or to bear. First
// those whose children somebody is to adopt, who is a subreaper meanwhile; then
// the others, whose children go to the init, while nobody is one.
func (r *restorer) endGhosts() error {
	for _, reaper := range r.plan.Tree.Adopters() {
		p := r.find(reaper)
		if err := p.reapsOrphans(true); err != nil {
			return err
		}
		if err := r.endGhostsOf(reaper); err != nil {
			return err
		}
		if err := p.reapsOrphans(false); err != nil {
			return err
		}
	}
	return r.endGhostsOf(0)
}

func (r *restorer) endGhostsOf(adopter int) error {
	var kept []*proc
	for _, p := range slices.Backward(r.procs) { // what it has made ends before a ghost
		if !p.node.Ghost || p.node.Adopter != adopter {
			kept = append(kept, p)
			continue
		}
		if err := kill(p.host); err != nil {
			return err
		}
		if err := p.parent.reap(p.node.Pid); err != nil {
			return err
		}
	}
	slices.Reverse(kept)
	r.procs = kept
	return nil
}

func (r *restorer) find(pid int) *proc {
	for _, p := range r.procs {
		if p.node.Pid == pid {
			return p
		}
	}
	return nil
}

func (p *proc) reapsOrphans(yes bool) error {
	flag := uint64(0)
	if yes {
		flag = 1
	}
	s := p.script()
	s.add("child subreaper", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, flag)
	return s.do()
}

// reap waits for a dead ghost that was a child of p, or of the init, who does so
// by itself.
func (p *proc) reap(pid int) error {
	if p == nil {
		return nil
	}
	s := p.script()
	s.add("wait4", unix.SYS_WAIT4, real(pid), 0, unix.WALL, 0)
	return s.do()
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
	text := strconv.Itoa(r.plan.Tree.LastPid)
	s.add("open ns_last_pid", unix.SYS_OPENAT, atFdCwd, s.string("/proc/sys/kernel/ns_last_pid"), unix.O_WRONLY, 0)
	s.add("write ns_last_pid", unix.SYS_WRITE, 3, s.string(text), uint64(len(text)))
	s.add("close", unix.SYS_CLOSE, 3)
	return s.do()
}

const atFdCwd = ^uint64(99) // AT_FDCWD, -100
