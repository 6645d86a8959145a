// SPDX-License-Identifier: Apache-2.0

package family

import (
	"fmt"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// seedSession is the session of what makes the roots, which is nobody's.
const seedSession = -1

// played is what became of a process when the tree was played through.
type played struct {
	ppid, sid int
	node      *Node
}

// check plays the tree through as the kernel would, and compares. What cannot be
// brought back is found here, when the image is made and not when it is needed.
func (b *builder) check(procs []*imagepb.Process) error {
	if len(b.stuck) > 0 {
		return fmt.Errorf("pid %d cannot be made again in group %d: its leader has left it for another such group", b.stuck[0], b.nodes[b.stuck[0]].P.Pgid)
	}
	all := b.play()
	for _, p := range procs {
		is, made := all[int(p.Pid)]
		switch {
		case !made:
			return fmt.Errorf("pid %d cannot be made again: its parent %d descends from it", p.Pid, p.Ppid)
		case is.sid != int(p.Sid):
			return fmt.Errorf("pid %d cannot be made again in session %d with parent %d", p.Pid, p.Sid, p.Ppid)
		case is.ppid != int(p.Ppid):
			return fmt.Errorf("pid %d cannot be given back its parent %d: it would be %d", p.Pid, p.Ppid, is.ppid)
		}
		if group := all[int(p.Pgid)]; p.Pgid > initPid && (group == nil || groupOf(group) != int(p.Sid)) {
			return fmt.Errorf("pid %d cannot be made again in group %d of session %d", p.Pid, p.Pgid, p.Sid)
		}
	}
	return nil
}

// groupOf is the session in which a process leads a group, or 0.
func groupOf(is *played) int {
	if is.node.NewGroup || is.node.NewSid {
		return is.sid
	}
	return 0
}

// play makes all processes and ends the ghosts.
func (b *builder) play() map[int]*played {
	all := map[int]*played{}
	var walk func(n *Node, parent, session int)
	walk = func(n *Node, parent, session int) {
		is := &played{ppid: parent, sid: session, node: n}
		all[n.Pid] = is
		by := func(c *Node) {
			if c.Sibling {
				walk(c, is.ppid, is.sid)
			} else {
				walk(c, n.Pid, is.sid)
			}
		}
		for _, c := range n.Before {
			by(c)
		}
		if n.NewSid {
			is.sid = n.Pid
		}
		for _, c := range n.After {
			by(c)
		}
	}
	for _, n := range b.Roots {
		walk(n, initPid, seedSession)
	}
	for _, reaper := range b.Adopters() {
		endGhosts(all, reaper)
	}
	endGhosts(all, 0)
	return all
}

// endGhosts ends the ghosts of one adopter, or those that are left: their
// children go to it, if it is among the ancestors, or to the init.
func endGhosts(all map[int]*played, adopter int) {
	over := func(is *played) bool { return is.node.Ghost && (adopter == 0 || is.node.Adopter == adopter) }
	heir := map[int]int{}
	for pid, is := range all {
		if !over(is) {
			continue
		}
		heir[pid] = initPid
		for up := is; up != nil; up = all[up.ppid] {
			if adopter != 0 && up.ppid == adopter {
				heir[pid] = adopter
			}
		}
	}
	for _, is := range all {
		if to, orphaned := heir[is.ppid]; orphaned && !over(is) {
			is.ppid = to
		}
	}
	for _, is := range all {
		if over(is) && adopter != 0 {
			is.node = &Node{Pid: is.node.Pid, NewGroup: is.node.NewGroup, NewSid: is.node.NewSid}
		}
	}
}
