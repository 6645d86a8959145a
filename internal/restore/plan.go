// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Plan is what to do to make the job of an image, worked out before anything is
// touched.
type Plan struct {
	Meta  *imagepb.Image
	Stub  uint64 // address at which no process of the image has anything
	Roots []*Node
	// StageBase is the first descriptor number above all that the job uses.
	// Descriptions are opened there and moved to their places at the end.
	StageBase int
	LastPid   int
}

// Node is a process to be made, and those to be made by it.
type Node struct {
	P        *imagepb.Process // nil for a ghost
	Pid      int
	Ghost    bool    // exists only to lead a session or a group whose leader was dead
	Before   []*Node // children to be made before it starts a session of its own
	After    []*Node // and after
	NewGroup bool    // setpgid(0, 0)
	NewSid   bool    // setsid()
}

// The stub's mapping in each process: a page of code, then the record area.
const (
	pageSize = 4096
	areaLen  = 1 << 20
	stubLen  = pageSize + areaLen
	lowest   = 1 << 20 // above any vm.mmap_min_addr
	highest  = 0x7ffffffff000 - 64<<20
	margin   = 1 << 20
)

// NewPlan works out how to make the job.
func NewPlan(meta *imagepb.Image) (*Plan, error) {
	p := &Plan{Meta: meta}
	var err error
	if p.Stub, err = freeAddress(meta.Processes); err != nil {
		return nil, err
	}
	for _, proc := range meta.Processes {
		p.LastPid = max(p.LastPid, int(proc.Pid), int(proc.Sid), int(proc.Pgid))
		for _, t := range proc.Threads {
			p.LastPid = max(p.LastPid, int(t.Tid))
		}
		for _, fd := range proc.Fds {
			p.StageBase = max(p.StageBase, int(fd.Number))
		}
	}
	p.StageBase = max(p.StageBase+1, first+spare)
	return p, p.tree()
}

// freeAddress finds room for the stub that is free in all processes, with some
// space around it.
func freeAddress(procs []*imagepb.Process) (uint64, error) {
	type span struct{ start, end uint64 }
	var used []span
	for _, p := range procs {
		for _, v := range p.Vmas {
			used = append(used, span{v.Start, v.End})
		}
	}
	slices.SortFunc(used, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	at := uint64(lowest)
	for _, s := range append(used, span{highest, highest}) {
		if s.start > at && s.start-at >= stubLen+2*margin {
			return at + margin, nil
		}
		at = max(at, (s.end+pageSize-1)&^(pageSize-1))
	}
	return 0, fmt.Errorf("no room for %d bytes in the address spaces of the job", stubLen)
}

// tree arranges the processes so that each can be made by its parent while the
// parent is in the right session.
func (p *Plan) tree() error {
	nodes := map[int]*Node{}
	for _, proc := range p.Meta.Processes {
		nodes[int(proc.Pid)] = &Node{P: proc, Pid: int(proc.Pid),
			NewSid: proc.Sid == proc.Pid, NewGroup: proc.Pgid == proc.Pid && proc.Sid != proc.Pid}
	}
	p.addGhosts(nodes)
	pids := make([]int, 0, len(nodes))
	for pid := range nodes {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	for _, pid := range pids {
		n := nodes[pid]
		if n.Ghost {
			continue // placed by addGhosts
		}
		parent := nodes[int(n.P.Ppid)]
		switch {
		case n.P.Ppid == 1 && !n.NewSid && nodes[int(n.P.Sid)] != nil:
			// An orphan in the session of another process: it has to be made
			// by a member of it, as a child of the init.
			leader := nodes[int(n.P.Sid)]
			leader.After = append(leader.After, n)
		case n.P.Ppid == 1:
			p.Roots = append(p.Roots, n)
		case parent == nil:
			return fmt.Errorf("pid %d: its parent %d is not in the image", pid, n.P.Ppid)
		case !n.NewSid && n.P.Sid != sidOf(parent):
			parent.Before = append(parent.Before, n)
		default:
			parent.After = append(parent.After, n)
		}
	}
	return nil
}

func sidOf(n *Node) int32 {
	if n.P == nil {
		return int32(n.Pid)
	}
	return n.P.Sid
}

// addGhosts adds processes for the leaders of sessions and groups that are dead
// although they have members. They end as soon as the members are in place.
func (p *Plan) addGhosts(nodes map[int]*Node) {
	for _, proc := range p.Meta.Processes {
		if sid := int(proc.Sid); sid > 1 && nodes[sid] == nil {
			n := &Node{Pid: sid, Ghost: true, NewSid: true}
			nodes[sid] = n
			p.Roots = append(p.Roots, n)
		}
	}
	for _, proc := range p.Meta.Processes {
		if pgid := int(proc.Pgid); pgid > 1 && nodes[pgid] == nil {
			n := &Node{Pid: pgid, Ghost: true, NewGroup: true}
			nodes[pgid] = n
			if leader := nodes[int(proc.Sid)]; leader != nil {
				leader.After = append(leader.After, n)
			} else {
				p.Roots = append(p.Roots, n)
			}
		}
	}
}
