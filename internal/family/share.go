// SPDX-License-Identifier: Apache-2.0

package family

import (
	"fmt"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Shared is what processes can have in common without being threads of one
// (clone(2)), a bit each.
type Shared int

const (
	Files Shared = 1 << iota // the table of descriptors, CLONE_FILES
	FS                       // working directory and umask, CLONE_FS
)

// groupOf names the processes that share one with this process; 0: it has its own.
func (s Shared) groupOf(p *imagepb.Process) int32 {
	switch {
	case p == nil:
		return 0
	case s == Files:
		return p.FilesOf
	}
	return p.FsOf
}

func (s Shared) String() string {
	if s == Files {
		return "table of descriptors"
	}
	return "working directory and umask"
}

// members counts, for each process, who of each group is at or below it.
type members map[*Node]map[int32]int

func (m members) count(n *Node, kind Shared) {
	m[n] = map[int32]int{}
	if g := kind.groupOf(n.P); g != 0 {
		m[n][g] = 1
	}
	for _, c := range n.Makes() {
		m.count(c, kind)
		for g, some := range m[c] {
			m[n][g] += some
		}
	}
}

// share decides who is made with a share in what its maker has, so that each group
// has one. Who comes between members of a group has a share until all are made, and
// gets its own then (unshare(2)).
func (t *Tree) share(kind Shared) error {
	seed := &Node{After: t.Roots}
	m := members{}
	m.count(seed, kind)
	// across are the groups with members both below a process and elsewhere.
	across := func(n *Node) (groups []int32) {
		for g, some := range m[n] {
			if some < m[seed][g] {
				groups = append(groups, g)
			}
		}
		return groups
	}
	for n := range m {
		own := kind.groupOf(n.P)
		has := own
		held := across(n)
		if len(held) > 0 {
			n.Share |= kind
		}
		for _, c := range n.Makes() {
			held = append(held, across(c)...)
		}
		for _, g := range held {
			if has != 0 && has != g {
				return fmt.Errorf("those that share a %s with pid %d and those that share one with pid %d come between each other (clone(2)), which cannot be made again", kind, min(g, has), max(g, has))
			}
			has = g
		}
		if own == 0 && has != 0 {
			n.Leave |= kind
		}
	}
	return nil
}
