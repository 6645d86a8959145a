// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// Fds lists the open descriptors of a process, in ascending order.
func Fds(pid int) ([]int, error) { return numbers(taskPath(pid, 0, "fd")) }

// Tasks lists the threads of a process, in ascending order.
func Tasks(pid int) ([]int, error) { return numbers(taskPath(pid, 0, "task")) }

// Eye is a thread of a process by which /proc shows its memory, files and
// namespaces: the main thread, or another that lives, once that has ended
// (pthread_exit(3) in main); 0: the process has ended. Its number can stand for
// the pid in all of /proc/PID.
func Eye(pid int) int {
	if lives(pid, 0) {
		return pid
	}
	tids, _ := Tasks(pid)
	for _, tid := range tids {
		if lives(pid, tid) {
			return tid
		}
	}
	return 0
}

func lives(pid, tid int) bool {
	st, err := ReadStat(pid, tid)
	return err == nil && st.State != 'Z' && st.State != 'X'
}

// Pids lists all processes that /proc shows.
func Pids() ([]int, error) { return numbers(root) }

// Children lists the child processes of all threads of a process, zombies
// included. While they run, children that come and go can be missed: it is
// exact for a process that is stopped with all of its children.
func Children(pid int) ([]int, error) {
	tids, err := Tasks(pid)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, tid := range tids {
		pids, err := threadChildren(pid, tid)
		if errors.Is(err, unix.ENOENT) && exists(taskPath(pid, tid, "stat")) {
			return childrenByParent(pid)
		}
		if Gone(err) {
			continue // the thread ended, and its children went to another
		}
		if err != nil {
			return nil, err
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return all, nil
}

func threadChildren(pid, tid int) ([]int, error) {
	return parseFile(taskPath(pid, tid, "children"), parseChildren)
}

// parseChildren reads `12 13 `: each number ends in a space.
func parseChildren(r io.Reader) ([]int, error) {
	b, err := io.ReadAll(r) // of any length: a shell can have thousands
	if err != nil {
		return nil, err
	}
	if len(b) > 0 && b[len(b)-1] != ' ' {
		return nil, errors.New("list of children is cut off")
	}
	f := fields{rest: b}
	pids := f.list()
	return pids, f.err
}

func exists(path string) bool {
	return unix.Access(path, unix.F_OK) == nil
}

// childrenByParent serves kernels without CONFIG_PROC_CHILDREN.
func childrenByParent(pid int) ([]int, error) {
	pids, err := Pids()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, p := range pids {
		st, err := ReadStat(p, 0)
		if Gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if st.Ppid == pid {
			out = append(out, p)
		}
	}
	return out, nil
}

// numbers lists the entries of a directory that are numbers.
func numbers(path string) ([]int, error) {
	f, err := openRaw(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	var out []int
	for {
		n, err := unix.Getdents(int(f), *buf)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", path, err)
		}
		if n == 0 {
			slices.Sort(out)
			return out, nil
		}
		out = direntNumbers((*buf)[:n], out)
	}
}

// Offsets in struct linux_dirent64, see getdents(2).
const (
	direntReclen = 16
	direntName   = 19
)

func direntNumbers(b []byte, out []int) []int {
	for len(b) > direntName {
		size := int(binary.NativeEndian.Uint16(b[direntReclen:]))
		if size <= direntName || size > len(b) {
			return out
		}
		name := b[direntName:size]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		if v, err := parseUint(name, 10); err == nil {
			out = append(out, int(v))
		}
		b = b[size:]
	}
	return out
}
