// SPDX-License-Identifier: Apache-2.0

// Package family works out how to make a tree of processes again: who has to
// make whom, and when, so that each ends up with its parent and its session.
//
// A process can only be born into the session of its maker, and can leave it
// only for one of its own (setsid(2)). So the children that a process had before
// it began its session must be made before, in the session that it was born
// into. Orphans belong to a session although their parent, the init or a child
// subreaper, does not: a ghost, a process that exists only for this, is made in
// the session, makes them, and ends. Ghosts also lead the sessions and groups
// whose leaders were dead.
package family

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// initPid is the parent of all that have no other in the job.
const initPid = 1

// Tree is how to make the processes.
type Tree struct {
	Roots   []*Node // children of the init, made in a session that none of them keeps
	Movers  []int   // leaders of groups that have left them for another: last, in this order
	LastPid int     // the highest number in use, or needed on the way
}

// Node is a process to be made, and those to be made by it.
type Node struct {
	P        *imagepb.Process // nil for a ghost
	Pid      int
	Ghost    bool    // ends when all are made
	Adopter  int     // the subreaper that adopts the children of this ghost, 0: the init
	Sibling  bool    // is made by its maker, but as a child of the maker's parent (CLONE_PARENT)
	Before   []*Node // to be made before it begins a session of its own
	After    []*Node // and after
	NewGroup bool    // setpgid(0, 0)
	NewSid   bool    // setsid()
	Share    Shared  // what it has in common with its maker when it is made
	Leave    Shared  // and what of that it must not keep

	placed bool
}

// Makes are those that a process makes.
func (n *Node) Makes() []*Node { return slices.Concat(n.Before, n.After) }

// builder is a Tree in the making.
type builder struct {
	Tree
	nodes    map[int]*Node
	pids     []int           // of the processes, in order
	children map[int][]*Node // of the processes, by parent
	stuck    []int           // leaders of groups that each wait for another

	doubts  []doubt
	flipped map[doubt]bool // those that this try decides otherwise
	taken   map[int]bool
}

// Arrange arranges the processes of an image. An error says whose relations cannot be
// brought back. Which children a process has adopted, because it is or was a
// subreaper, is not known for sure: where one guess does not work others are tried.
func Arrange(procs []*imagepb.Process) (*Tree, error) {
	first := newBuilder(nil)
	err := first.arrange(procs)
	failed := []*builder{first}
	for tries := 0; err != nil && len(failed) > 0; failed = failed[1:] {
		for _, d := range failed[0].doubts {
			if tries++; tries > maxTries {
				return nil, err
			}
			if failed[0].flipped[d] {
				continue
			}
			b := newBuilder(failed[0].flipped, d)
			if b.arrange(procs) == nil {
				return &b.Tree, nil
			}
			failed = append(failed, b)
		}
	}
	return &first.Tree, err
}

// maxTries bounds the guesses: more than a few subreapers are not to be expected.
const maxTries = 1000

func newBuilder(flipped map[doubt]bool, more ...doubt) *builder {
	b := &builder{nodes: map[int]*Node{}, taken: map[int]bool{}, flipped: map[doubt]bool{}, children: map[int][]*Node{}}
	maps.Copy(b.flipped, flipped)
	for _, d := range more {
		b.flipped[d] = true
	}
	return b
}

func (b *builder) arrange(procs []*imagepb.Process) error {
	b.number(procs)
	leads := map[int32]bool{}
	for _, p := range procs {
		leads[p.Pgid] = true // which may have left the group itself
	}
	for _, p := range procs {
		pid := int(p.Pid)
		b.nodes[pid] = &Node{P: p, Pid: pid, NewSid: p.Sid == p.Pid, NewGroup: leads[p.Pid] && p.Sid != p.Pid}
		b.pids = append(b.pids, pid)
	}
	slices.Sort(b.pids)
	for _, pid := range b.pids {
		n := b.nodes[pid]
		b.children[int(n.P.Ppid)] = append(b.children[int(n.P.Ppid)], n)
	}
	if pid := b.cycle(); pid != 0 {
		return fmt.Errorf("pid %d is its own ancestor", pid)
	}
	b.addSessionGhosts()
	for _, pid := range b.pids {
		if err := b.place(b.nodes[pid]); err != nil {
			return err
		}
	}
	b.addGroupGhosts()
	b.addMovers()
	if err := b.check(procs); err != nil {
		return err
	}
	return errors.Join(b.share(Files), b.share(FS))
}

// cycle finds a process that descends from itself, as no job's can.
func (b *builder) cycle() int {
	reached := map[int]bool{}
	next := []int{initPid}
	for _, pid := range b.pids {
		if b.nodes[int(b.nodes[pid].P.Ppid)] == nil {
			next = append(next, int(b.nodes[pid].P.Ppid))
		}
	}
	for ; len(next) > 0; next = next[1:] {
		for _, c := range b.children[next[0]] {
			if !reached[c.Pid] {
				reached[c.Pid] = true
				next = append(next, c.Pid)
			}
		}
	}
	for _, pid := range b.pids {
		if !reached[pid] {
			return pid
		}
	}
	return 0
}

// number notes all numbers that are in use.
func (b *builder) number(procs []*imagepb.Process) {
	use := func(id int32) {
		b.taken[int(id)] = true
		b.LastPid = max(b.LastPid, int(id))
	}
	for _, p := range procs {
		use(p.Pid)
		use(p.Sid)
		use(p.Pgid)
		for _, t := range p.Threads {
			use(t.Tid)
		}
	}
}

// free is a number that nobody has: low, because numbers may be few.
func (b *builder) free() int {
	pid := 301 // below that, the kernel numbers nobody (RESERVED_PIDS)
	for b.taken[pid] {
		pid++
	}
	b.taken[pid] = true
	return pid
}

// addSessionGhosts adds leaders for sessions that have none. One of whose
// members was adopted by a subreaper is made below that: only then the
// subreaper will adopt again.
func (b *builder) addSessionGhosts() {
	for _, pid := range b.pids {
		n := b.nodes[pid]
		sid := int(n.P.Sid)
		if sid <= initPid || b.nodes[sid] != nil {
			continue
		}
		b.nodes[sid] = &Node{Pid: sid, Ghost: true, NewSid: true, placed: true}
		if reaper := b.reaperOf(sid); reaper != nil {
			reaper.After = append(reaper.After, b.nodes[sid])
		} else {
			b.Roots = append(b.Roots, b.nodes[sid])
		}
	}
}

// reaperOf finds the subreaper, the one deepest in the tree, that has adopted
// members of a session whose leader is dead.
func (b *builder) reaperOf(sid int) *Node {
	var found *Node
	for _, pid := range b.pids {
		n := b.nodes[pid]
		parent := b.nodes[int(n.P.Ppid)]
		if b.birth(n) != sid || parent == nil || parent.P == nil ||
			int(parent.P.Sid) == sid || b.birth(parent) == sid || !b.adopted(parent, sid) {
			continue
		}
		if found == nil || b.below(parent, found.Pid) {
			found = parent
		}
	}
	return found
}

// below says that a process has another among its ancestors.
func (b *builder) below(n *Node, pid int) bool {
	for n != nil && n.P != nil {
		if int(n.P.Ppid) == pid {
			return true
		}
		n = b.nodes[int(n.P.Ppid)]
	}
	return false
}

// birth is the session that a process must be born into, or 0 for any: its own,
// or, for one that has begun a session, that of its older children.
func (b *builder) birth(n *Node) int {
	if n.P == nil {
		return 0
	}
	if !n.NewSid {
		return int(n.P.Sid)
	}
	for _, c := range b.children[n.Pid] {
		if s := b.birth(c); s != 0 && s != n.Pid && !b.adopted(n, s) {
			return s
		}
	}
	return 0
}

// doubt is whether the children that a process has from another session are its
// own, older than its session, or were adopted.
type doubt struct{ parent, session int }

// adopted says that a child born into a session s has come to its parent as an
// orphan. That is likely if the parent is a subreaper, unless it may have been in
// that session itself, because an ancestor is.
func (b *builder) adopted(parent *Node, s int) bool {
	d := doubt{parent.Pid, s}
	if !slices.Contains(b.doubts, d) {
		b.doubts = append(b.doubts, d)
	}
	return b.flipped[d] != (parent.P.ChildSubreaper && !b.descends(parent, s))
}

// descends says that an ancestor of a process is in a session.
func (b *builder) descends(n *Node, s int) bool {
	for n = b.nodes[int(n.P.Ppid)]; n != nil && n.P != nil; n = b.nodes[int(n.P.Ppid)] {
		if int(n.P.Sid) == s {
			return true
		}
	}
	return false
}

// place finds a maker for a process.
func (b *builder) place(n *Node) error {
	if n.placed {
		return nil
	}
	n.placed = true
	session, parent := b.birth(n), b.nodes[int(n.P.Ppid)]
	switch {
	case n.P.Ppid == initPid && session == 0:
		b.Roots = append(b.Roots, n)
	case n.P.Ppid == initPid:
		return b.bear(n, session)
	case parent == nil:
		return fmt.Errorf("pid %d: its parent %d is not in the image", n.Pid, n.P.Ppid)
	case session == 0 || session == int(parent.P.Sid):
		parent.After = append(parent.After, n)
	case session == b.birth(parent):
		parent.Before = append(parent.Before, n)
	default:
		return b.bear(n, session)
	}
	return nil
}

// bear has an orphan made in its session, by the leader of that: directly, as
// its sibling, where both are children of the init, or by a ghost.
func (b *builder) bear(n *Node, session int) error {
	leader := b.nodes[session]
	if leader == nil {
		return fmt.Errorf("pid %d: nobody is left of session %d", n.Pid, session)
	}
	adopter := 0
	if n.P.Ppid != initPid {
		adopter = int(n.P.Ppid)
	} else if leader.P == nil && slices.Contains(b.Roots, leader) || leader.P != nil && leader.P.Ppid == initPid {
		n.Sibling = true
		leader.After = append(leader.After, n)
		return nil
	}
	leader.After = append(leader.After, &Node{Pid: b.free(), Ghost: true, Adopter: adopter, After: []*Node{n}})
	return nil
}

// addGroupGhosts adds leaders for groups that have none, as children of the
// leaders of their sessions.
func (b *builder) addGroupGhosts() {
	for _, pid := range b.pids {
		p := b.nodes[pid].P
		pgid := int(p.Pgid)
		leader := b.nodes[int(p.Sid)]
		if pgid <= initPid || b.nodes[pgid] != nil || leader == nil {
			continue
		}
		b.nodes[pgid] = &Node{Pid: pgid, Ghost: true, NewGroup: true}
		leader.After = append(leader.After, b.nodes[pgid])
	}
}

// addMovers puts the leaders that have left their groups in an order in which no
// group is empty before its last member has come.
func (b *builder) addMovers() {
	waits := func(n *Node, others []int) bool { // somebody else still has to come to n's own group, and only n holds it
		for _, pid := range b.pids {
			if p := b.nodes[pid].P; int(p.Pgid) == n.Pid && !slices.Contains(others, pid) {
				return false
			}
		}
		return true
	}
	var left []int
	for _, pid := range b.pids {
		if n := b.nodes[pid]; n.NewGroup && int(n.P.Pgid) != pid {
			left = append(left, pid)
		}
	}
	for progress := true; progress; {
		progress = false
		for i, pid := range left {
			if !waits(b.nodes[pid], left) {
				b.Movers = append(b.Movers, pid)
				left = slices.Delete(left, i, i+1)
				progress = true
				break
			}
		}
	}
	b.stuck = left
}

// Adopters are the subreapers for whom ghosts have to end, one after the other.
func (t *Tree) Adopters() []int {
	var all []int
	t.each(func(n *Node) {
		if n.Ghost && n.Adopter != 0 && !slices.Contains(all, n.Adopter) {
			all = append(all, n.Adopter)
		}
	})
	return all
}

// each visits all nodes, makers first.
func (t *Tree) each(visit func(*Node)) {
	var walk func([]*Node)
	walk = func(nodes []*Node) {
		for _, n := range nodes {
			visit(n)
			walk(n.Before)
			walk(n.After)
		}
	}
	walk(t.Roots)
}
