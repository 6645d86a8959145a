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

// family are the members of a job without an init: the root, all that descends
// from it, and, because a process that lost its parent descends from nobody,
// all that are in a session or process group led by one of these, and their
// descendants. One that has left all that behind (a daemon) is not the job's.
func (t Tree) family() ([]int, error) {
	pids, err := procfs.Pids()
	if err != nil {
		return nil, err
	}
	below := map[int][]*procfs.Stat{} // by parent, session or group
	there := false
	for _, pid := range pids {
		st, err := procfs.ReadStat(pid, 0)
		if err != nil {
			continue // it has just ended
		}
		if pid == t.Root {
			there = st.Starttime == t.Start
		}
		for _, of := range []int{st.Ppid, st.Session, st.Pgrp} {
			below[of] = append(below[of], &st)
		}
	}
	if !there {
		return nil, ErrEnded
	}
	all, found := []int{t.Root}, map[int]bool{t.Root: true}
	for i := 0; i < len(all); i++ {
		for _, st := range below[all[i]] {
			if !found[st.Pid] {
				found[st.Pid] = true
				all = append(all, st.Pid)
			}
		}
	}
	slices.Sort(all)
	return all, nil
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
