// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/procfs"
)

// preflight looks, without stopping anybody, for state that cannot be carried.
// What changes between this look and the freeze is found by collect.
// It returns what a snapshot would not tell.
func preflight(tree freeze.Tree) (*beforehand, error) {
	pids, err := tree.Members()
	if err != nil {
		return nil, err
	}
	before := &beforehand{notForked: map[int][]procfs.Mapping{}, locked: map[int][]procfs.Mapping{}}
	table, ours := newFileTable(tree), homeOf(tree)
	var refused []string
	for _, pid := range pids {
		refused = append(refused, preflightProcess(tree, ours, table, pid, before)...)
	}
	if len(refused) > 0 {
		return nil, &RefusedError{Reasons: refused}
	}
	return before, nil
}

func preflightProcess(tree freeze.Tree, ours namespaces, table *fileTable, pid int, before *beforehand) []string {
	stat, err := procfs.ReadStat(pid, 0)
	eye := procfs.Eye(pid)
	if err != nil || eye == 0 {
		return nil
	}
	status, err := procfs.ReadStatus(pid, 0)
	if err != nil {
		return nil
	}
	refused := refuseProcess(tree, ours, eye, &stat, &status)
	refused = append(refused, preflightThreads(pid, &status)...)
	refused = append(refused, refuseUndumpable(eye, stat.Comm)...)
	if maps, err := procfs.ReadSmaps(eye); err == nil {
		refused = append(refused, refuseMaps(last(status.NSpid), stat.Comm, maps)...)
		refused = append(refused, refuseSysv(pid, stat.Comm, maps)...)
		for i := range maps {
			before.note(pid, &maps[i])
		}
	}
	return append(refused, preflightFiles(table, eye, last(status.NSpid), stat.Comm)...)
}

// refuseProcess checks what a whole process may have that cannot be carried.
func refuseProcess(tree freeze.Tree, ours namespaces, eye int, st *procfs.Stat, status *procfs.Status) []string {
	var refused []string
	no := func(format string, args ...any) {
		refused = append(refused, fmt.Sprintf("pid %d (%s) ", last(status.NSpid), st.Comm)+fmt.Sprintf(format, args...))
	}
	if strings.Contains(status.ThreadFeatures, "shstk") {
		no("uses a shadow stack: start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off")
	}
	if exe, err := procfs.Link(eye, "exe"); err == nil && filepath.Base(exe) == "srun" {
		// They are slurmstepd's. A resumed srun would lose its connections to them, and
		// tell the script that they have failed.
		no("has started tasks that are not part of this job: save these where they run, by `srun esky-wrap run -- PROGRAM`, and not the script around them")
	}
	if tree.Adopted() {
		if why := refuseAdopted(eye, st, status); len(why) > 0 {
			return append(refused, why...)
		}
	}
	theirs := namespacesOf(eye)
	for _, ns := range []string{"pid", "user", "mnt", "net", "ipc", "uts", "cgroup"} {
		if have, ok := theirs[ns]; ok && have != ours[ns] {
			no("lives in a %s namespace of its own", ns)
		}
	}
	// Those that the next child gets; a process that has none yet cannot be asked.
	for ns, children := range map[string]string{"pid": "pid_for_children", "time": "time_for_children"} {
		if have, ok := theirs[children]; ok && theirs[ns] != "" && have != theirs[ns] {
			no("has made a %s namespace for its children", ns)
		}
	}
	if want, ok := ours["time_for_children"]; ok {
		if have, ok := theirs["time"]; ok && have != want {
			no("lives in a time namespace of its own")
		}
	}
	if root, err := procfs.Link(eye, "root"); err == nil && root != "/" {
		no("has changed its root directory to %s", root)
	}
	return refused
}

// namespaces are the names of a process's namespaces (namespaces(7)).
type namespaces map[string]string

// homeOf are those of the job.
func homeOf(tree freeze.Tree) namespaces {
	if tree.Adopted() {
		return namespacesOf(os.Getpid())
	}
	return namespacesOf(tree.Init)
}

func namespacesOf(pid int) namespaces {
	all := namespaces{}
	for _, ns := range []string{"pid", "user", "mnt", "net", "ipc", "uts", "cgroup", "time", "pid_for_children", "time_for_children"} {
		if name, err := procfs.Link(pid, "ns/"+ns); err == nil {
			all[ns] = name
		}
	}
	return all
}

// lasts tells whether something is so for longer than it takes to execute a
// program: in the middle of execve(2) no process is dumpable.
func lasts(is func() bool) bool {
	for range 20 {
		if !is() {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return is()
}

// refuseMaps checks mappings; their flags are there only in smaps.
func refuseMaps(pid int, comm string, maps []procfs.Mapping) []string {
	var refused []string
	for i := range maps {
		m := &maps[i]
		if why := refuseMap(m); why != "" {
			refused = append(refused, fmt.Sprintf("pid %d (%s) maps %s at %#x: %s", pid, comm, m.Path, m.Start, why))
		}
	}
	return refused
}

func refuseMap(m *procfs.Mapping) string {
	switch {
	case m.Has("ht") && !m.Deleted: // without a name they are memory like another
		return "files of hugetlbfs are not carried: let the program use huge pages without a name (MAP_ANONYMOUS, memfd_create)"
	case m.Has("io"), m.Has("pf"):
		if m.Path == "[vvar]" || m.Path == "[vvar_vclock]" {
			return ""
		}
		if strings.HasPrefix(m.Path, "/dev/") || strings.HasPrefix(m.Path, "anon_inode:") {
			return refuseKind(m.Path)
		}
		return "memory of a device cannot be carried"
	case m.Has("um"), m.Has("ui"):
		return "its pages are supplied by userfaultfd"
	case m.Has("ss"):
		return "shadow stacks cannot be carried"
	case m.ProtectionKey != 0:
		return "memory protection keys are not carried yet"
	case strings.HasPrefix(m.Path, "anon_inode:"):
		return refuseKind(m.Path)
	case strings.HasPrefix(m.Path, "socket:"): // TCP_ZEROCOPY_RECEIVE, tcp(7)
		return "memory of a socket cannot be carried: let the program read from it"
	case strings.HasPrefix(m.Path, "/dev/") && m.Path != "/dev/zero" && !strings.HasPrefix(m.Path, "/dev/shm/"):
		return refuseKind(m.Path)
	}
	return ""
}
