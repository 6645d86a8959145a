// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// TestFamily has a shell with a child, an orphan in a session that was made below
// it, and a process that shares nothing with it any more.
func TestFamily(t *testing.T) {
	cmd := exec.Command("bash", "-c", `
		sleep 100 & echo $!
		setsid bash -c '(sleep 100 <&- >&- & echo $!); sleep 100 <&- >&- & wait' &
		setsid bash -c 'setsid sleep 100 <&- >&- & echo $!'
		wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		members, _ := (Tree{Root: cmd.Process.Pid, Start: startOf(t, cmd.Process.Pid)}).Members()
		for _, pid := range members {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = cmd.Wait()
	}()
	var pids []int
	buf := make([]byte, 64)
	for len(pids) < 3 {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(string(buf[:n])) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
			defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
		}
	}
	for _, pid := range pids { // until it is what it is to be, in its session
		for st, err := procfs.ReadStat(pid, 0); st.Comm != "sleep"; st, err = procfs.ReadStat(pid, 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	root := cmd.Process.Pid
	tree := Tree{Root: root, Start: startOf(t, root)}
	members, err := tree.Members()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(members, os.Getpid()) || !slices.Contains(members, root) {
		t.Errorf("members %v of %d", members, root)
	}
	for _, pid := range pids {
		stat, err := procfs.ReadStat(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		daemon := stat.Session == pid
		if slices.Contains(members, pid) == daemon {
			t.Errorf("pid %d (session %d, parent %d) is a member: %v", pid, stat.Session, stat.Ppid, !daemon)
		}
	}
	tree.Start++
	if _, err := tree.Members(); !errors.Is(err, ErrEnded) {
		t.Errorf("a later process with the same pid: %v", err)
	}
}

func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	st, err := procfs.ReadStat(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return st.Starttime
}
