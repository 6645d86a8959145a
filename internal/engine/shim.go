// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/procfs"
)

// Modes in which a job lives.
const (
	ModeNamespace = "namespace"
	ModeShim      = "shim" // without namespaces: docs/engine.md
)

// IDsVariable names, in the environment of a job in shim mode, the file at IDsPath,
// from which a program that the job executes learns the job's process numbers.
const IDsVariable = ids.Variable

// IDsPath is that file's path, given that of the job's status.
func IDsPath(statusPath string) string { return statusPath + ids.FileSuffix }

// launch starts an init in the mode that is asked for, and makes its table of
// numbers the one that this process works with.
func launch(c namespace.Config, mode string, streams namespace.Streams, lock *os.File) (*namespace.Init, error) {
	path := IDsPath(c.StatusPath)
	ids.Use(nil)
	// That of an incarnation before would be believed by programs of this one.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if mode == ModeShim {
		c.Shim, c.IDs = true, path
		// Should the init be killed, its children are to be ours, who kill them.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("adopt the orphans of the job: %w", err)
		}
	}
	i, err := namespace.Launch(c, streams, lock)
	if err != nil {
		return nil, launchError(err)
	}
	if mode == ModeShim {
		ids.Use(&ids.Table{Init: i.Pid()})
	}
	return i, nil
}

// killTime is how long processes may take to die before we give up on them.
const killTime = 10 * time.Second

// killMembers ends a job that has no namespace which would end with its init: the
// init is stopped, so that it reports no end, then all below it are killed until
// nothing but zombies is left.
func killMembers(initPid int) error {
	_ = unix.Kill(initPid, unix.SIGSTOP)
	for end := time.Now().Add(killTime); ; time.Sleep(time.Millisecond) {
		left := 0
		pids, _ := freeze.Descendants(initPid)
		for _, pid := range pids {
			if procfs.Eye(pid) != 0 {
				left++
				killDescendant(pid, initPid)
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("kill the job: %d of its processes do not end", left)
		}
	}
}

// killDescendant kills a process if it still is one of those below the init, and
// not another that has got its number: without a namespace of the job's these come
// round in seconds (await).
func killDescendant(pid, initPid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	for p := pid; p > 1; {
		st, err := procfs.ReadStat(p, 0)
		if err != nil {
			return
		}
		if p = st.Ppid; p == initPid {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			return
		}
	}
}

// sweep ends what an init without namespaces that was killed has left to us. They
// are our children in a session that is not ours; workers are, too, but execute
// this program.
func sweep() {
	self, _ := os.Readlink("/proc/self/exe")
	session, err := unix.Getsid(0)
	if err != nil {
		return
	}
	for end := time.Now().Add(killTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		left := 0
		children, _ := procfs.Children(os.Getpid())
		for _, pid := range children {
			sid, err := unix.Getsid(pid)
			if exe, _ := procfs.Link(pid, "exe"); err != nil || sid == session || exe == self {
				continue
			}
			left++
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
		if left == 0 {
			return
		}
	}
}
