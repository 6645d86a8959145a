// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"fmt"
	"os"
	"slices"

	"github.com/esky-hpc/esky/internal/procfs"
)

// Tree says which processes of the host are a job.
type Tree struct {
	// Init is the host pid of the job's init: all below it are the job. It is 0
	// for a job that was not started by us.
	Init int
	// Root is then the process that the job began with, and Start its start time
	// (procfs.Stat), by which it is told from a later one with the same pid.
	Root  int
	Start uint64
}

// Adopted says that the job was not started by us and has no init.
func (t Tree) Adopted() bool { return t.Init == 0 }

// Top is the process that stands for the whole job: nothing of it is older.
func (t Tree) Top() int {
	if t.Adopted() {
		return t.Root
	}
	return t.Init
}

// Members lists the host pids of the job, zombies included. It is exact when
// all of them stand still. ErrEnded: there are none.
func (t Tree) Members() ([]int, error) {
	if t.Adopted() {
		return t.family()
	}
	return Descendants(t.Init)
}

// family are the members of a job without an init: the root and all that descends
// from it. A process whose parent has ended descends from nobody; it is known by
// its session or process group, where that was made by a member: one that a member
// leads, or is in although the root is in another. One that is in a session and a
// group of its own (a daemon) is not the job's.
func (t Tree) family() ([]int, error) {
	pids, err := procfs.Pids()
	if err != nil {
		return nil, err
	}
	all, parents := map[int]*procfs.Stat{}, map[int][]int{}
	sessions, groups := map[int][]int{}, map[int][]int{}
	for _, pid := range pids {
		st, err := procfs.ReadStat(pid, 0)
		if err != nil {
			continue // it has just ended
		}
		all[pid] = &st
		parents[st.Ppid] = append(parents[st.Ppid], pid)
		sessions[st.Session] = append(sessions[st.Session], pid)
		groups[st.Pgrp] = append(groups[st.Pgrp], pid)
	}
	root := all[t.Root]
	if root == nil || root.Starttime != t.Start {
		return nil, ErrEnded
	}
	found, isMember := []int{t.Root}, map[int]bool{t.Root: true}
	add := func(pids []int) {
		for _, pid := range pids {
			if !isMember[pid] {
				isMember[pid] = true
				found = append(found, pid)
			}
		}
	}
	for i := 0; i < len(found); i++ {
		st := all[found[i]]
		add(parents[st.Pid])
		add(sessions[st.Pid])
		add(groups[st.Pid])
		if st.Session != root.Session { // made below the root (setsid(2))
			add(sessions[st.Session])
		}
		if leader := all[st.Pgrp]; st.Pgrp != root.Pgrp && (leader == nil || isMember[leader.Pid]) {
			add(groups[st.Pgrp])
		}
	}
	slices.Sort(found)
	return found, nil
}

// Descendants lists the host pids below a process, zombies included.
func Descendants(pid int) ([]int, error) {
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		return nil, ErrEnded
	}
	var all []int
	next := []int{pid}
	for len(next) > 0 {
		children, err := procfs.Children(next[0])
		if err != nil && next[0] == pid {
			return nil, ErrEnded
		}
		next = append(next[1:], children...)
		all = append(all, children...)
	}
	return all, nil
}
