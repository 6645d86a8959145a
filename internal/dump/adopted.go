// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/procfs"
)

// An adopted job was not started by us: it has the host's pids, no init, and
// standard streams that nobody but its root can tell from other files.

// lowestPid is the first pid that a resumed job can have for certain: those
// below are taken by the threads of its init.
const lowestPid = 64

// refuseAdopted checks what only a process that we have not started can be.
func refuseAdopted(eye int, st *procfs.Stat, status *procfs.Status) []string {
	var refused []string
	no := func(format string, args ...any) {
		refused = append(refused, fmt.Sprintf("pid %d (%s) ", st.Pid, st.Comm)+fmt.Sprintf(format, args...))
	}
	const kernelThread = 0x200000 // PF_KTHREAD, include/linux/sched.h
	if st.Flags&kernelThread != 0 {
		no("is a thread of the kernel")
		return refused
	}
	if st.Pid == os.Getppid() {
		no("is this very command: give it from a shell that does not belong to the job")
		return refused
	}
	if init := jobInit(eye); init != 0 {
		no("belongs to a job of esky already (whose init is pid %d): `esky-wrap checkpoint%s` saves that", init, jobName(eye))
		return refused
	}
	if isOurProgram(eye) {
		no("is esky-wrap itself: checkpoint its job with `esky-wrap checkpoint`")
		return refused
	}
	gid := os.Getgid()
	for _, id := range status.Gid {
		if id != gid {
			no("runs with the group %d, this command with %d: give it in the same group (newgrp)", id, gid)
			break
		}
	}
	if st.Pid < lowestPid {
		no("has one of the first pids, which a resumed job cannot have: only pids from %d on can be adopted", lowestPid)
	}
	if why := refuseTracing(eye); why != "" {
		no("%s", why)
	}
	return refused
}

// jobInit is the host pid of the esky job's init from which a process descends, 0
// if it does from none.
func jobInit(pid int) int {
	for pid > 1 {
		if argv := Argv(pid); len(argv) > 0 && argv[0] == initName && isOurProgram(pid) {
			return pid
		}
		st, err := procfs.ReadStat(pid, 0)
		if err != nil {
			return 0
		}
		pid = st.Ppid
	}
	return 0
}

// initName is what package namespace calls an init.
const initName = "esky-init"

// jobName finds out which job a process belongs to; it may not tell.
func jobName(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	flags := map[string]string{}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if name, value, ok := bytes.Cut(kv, []byte{'='}); ok {
			flags[string(name)] = string(value)
		}
	}
	if flags["ESKY_JOB"] == "" {
		return ""
	}
	return fmt.Sprintf(" --store %s %s", flags["ESKY_STORE"], flags["ESKY_JOB"])
}

// isOurProgram says that a process executes the same file as we do.
func isOurProgram(pid int) bool {
	mine, err1 := os.Stat("/proc/self/exe")
	its, err2 := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	return err1 == nil && err2 == nil && os.SameFile(mine, its)
}

// refuseTracing says why the kernel would not let us trace a process, by asking
// it: opening the memory needs the same rights (proc_pid_mem(5)).
func refuseTracing(pid int) string {
	dir := fmt.Sprintf("/proc/%d", pid)
	forbidden := func() bool {
		mem, err := os.OpenFile(filepath.Join(dir, "mem"), os.O_RDONLY, 0)
		if err == nil {
			mem.Close()
		}
		return errors.Is(err, fs.ErrPermission) // another error: it has just ended
	}
	if !lasts(forbidden) {
		return ""
	}
	fi, err := os.Stat(filepath.Join(dir, "mem")) // of one that is not dumpable it is root's, proc(5)
	if err != nil {
		return ""
	}
	dumpable := fi.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid())
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	return whyNotTraced(dumpable, strings.TrimSpace(string(scope)))
}

// whyNotTraced names what forbids to trace a process of the same user:
// ptrace(2), and Documentation/admin-guide/LSM/Yama.rst.
func whyNotTraced(dumpable bool, yamaScope string) string {
	const withPower = "; with CAP_SYS_PTRACE it can be: " +
		"`sudo setpriv --reuid $(id -u) --regid $(id -g) --init-groups --inh-caps +sys_ptrace --ambient-caps +sys_ptrace esky-wrap adopt …`"
	switch {
	case !dumpable:
		return "may not be traced: it is not dumpable (its program is setuid, cannot be read, or has asked for that by PR_SET_DUMPABLE)" + withPower
	case yamaScope == "1":
		return "may be traced by its ancestors only (kernel.yama.ptrace_scope is 1)" + withPower +
			"; or an administrator allows it for all, `sysctl kernel.yama.ptrace_scope=0`; or the program does by prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)"
	case yamaScope == "2":
		return "may be traced by nobody without privileges (kernel.yama.ptrace_scope is 2)" + withPower
	case yamaScope == "3":
		return "may be traced by nobody until the next boot (kernel.yama.ptrace_scope is 3)"
	}
	return "may not be traced: the kernel or a security module forbids it" + withPower
}

// Argv is the command line of a process of the host.
func Argv(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}

// givenCPUs are the CPUs that the job was given and did not choose. For an
// adopted one those of who started it, if that is still there.
func givenCPUs(tree freeze.Tree) (string, error) {
	top, err := procfs.ReadStatus(tree.Top(), 0)
	if err != nil || !tree.Adopted() {
		return top.CpusAllowedList, err
	}
	parent, err := procfs.ReadStatus(top.PPid, 0)
	if err == nil && top.PPid > 1 && parent.Uid == top.Uid {
		return parent.CpusAllowedList, nil
	}
	return top.CpusAllowedList, nil
}

// givenStream says whether a standard stream of an adopted job is to be
// exchanged, at a resume, for that of whoever resumes it: a terminal, and an
// output that goes to a process outside. A file is the user's own file. An input
// that comes from outside is none: what it would have brought is lost.
func givenStream(tree freeze.Tree, i int) bool {
	f := &file{hostPid: procfs.Eye(tree.Root), pid: tree.Root, fd: i}
	if f.read() != nil {
		return false
	}
	switch f.st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		return isTerminal(&f.st)
	case unix.S_IFSOCK:
		return i > 0 && !f.elsewhere(tree)
	case unix.S_IFIFO:
		_, broken, err := f.poll()
		return i > 0 && err == nil && !broken && accessMode(f.info.Flags) == unix.O_WRONLY && !f.readInside(tree)
	}
	return false
}

// readInside says that a member of the job has the pipe open for reading.
func (f *file) readInside(tree freeze.Tree) bool {
	return f.among(tree, func(g *file) bool {
		return g.st.Dev == f.st.Dev && g.st.Ino == f.st.Ino && accessMode(g.info.Flags) != unix.O_WRONLY
	})
}

// elsewhere says that the job has the socket at other numbers than 0 to 2: then
// it is a connection, and not a stream that the job was given.
func (f *file) elsewhere(tree freeze.Tree) bool {
	return f.among(tree, func(g *file) bool { return g.fd > 2 && g.st.Dev == f.st.Dev && g.st.Ino == f.st.Ino })
}

func (f *file) among(tree freeze.Tree, is func(*file) bool) bool {
	pids, _ := tree.Members()
	for _, pid := range pids {
		eye := procfs.Eye(pid)
		fds, _ := procfs.Fds(eye)
		for _, fd := range fds {
			if g := (&file{hostPid: eye, fd: fd}); g.read() == nil && is(g) {
				return true
			}
		}
	}
	return false
}

// noteStreams says which of the standard streams will be others after a resume.
func (d *Dump) noteStreams() {
	var names []string
	for i, name := range []string{"input", "output", "error"} {
		if d.files.stdio[i].Ino != 0 {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		d.notes = append(d.notes, fmt.Sprintf("standard %s: a terminal, or a process outside the job; after a resume it is that of the new run",
			strings.Join(names, ", ")))
	}
}

// outsideEnd names, for people, a process that is not of the adopted job and has
// the same pipe open; empty if it cannot be seen.
func (d *Dump) outsideEnd(f *file) string {
	if !d.o.Tree.Adopted() {
		return ""
	}
	const what = "; adopt a process from which both descend, or give --cut: then it comes back with nobody at the other end"
	members, _ := d.o.Tree.Members()
	pids, _ := procfs.Pids()
	for _, pid := range pids {
		if slices.Contains(members, pid) || isOurProgram(pid) {
			continue
		}
		fds, _ := procfs.Fds(pid) // of other users: none
		for _, fd := range fds {
			if link, err := procfs.Link(pid, fmt.Sprintf("fd/%d", fd)); err != nil || link != f.link {
				continue
			}
			st, _ := procfs.ReadStat(pid, 0)
			return fmt.Sprintf(" (pid %d, %s)", pid, st.Comm) + what
		}
	}
	return what
}

// renameOutside gives new numbers to the sessions and groups whose leaders are
// outside and have pids that a resumed job cannot have: the first ones, and 0,
// which stands for one outside the pid namespace of this host (a container). Of
// these leaders the job has nothing but the number.
func (d *Dump) renameOutside() {
	used := map[int32]bool{}
	for _, pb := range d.meta.Processes {
		used[pb.Pid], used[pb.Sid], used[pb.Pgid] = true, true, true
		for _, t := range pb.Threads {
			used[t.Tid] = true
		}
	}
	next, renamed := int32(1000), map[int32]int32{}
	rename := func(id *int32) {
		if *id >= lowestPid {
			return
		}
		if renamed[*id] == 0 {
			for used[next] {
				next++
			}
			used[next], renamed[*id] = true, next
		}
		*id = renamed[*id]
	}
	for _, pb := range d.meta.Processes {
		rename(&pb.Sid)
		rename(&pb.Pgid)
	}
}
