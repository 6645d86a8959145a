// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Verb is the hidden first argument with which main must call ProbeMain with
// the arguments after it.
const Verb = "__probe"

// unshare(CLONE_NEWTIME) must be called by the thread-group leader, which is
// what /proc/self/timens_offsets is about, and ptrace by one and the same
// thread: a helper's main goroutine stays on the main thread.
func init() {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		runtime.LockOSThread()
	}
}

// ProbeMain is a helper of Probe. It does not return.
func ProbeMain(args []string) {
	reports := json.NewEncoder(os.Stdout)
	switch {
	case len(args) == 1 && args[0] == "inside":
		for _, try := range insideTries {
			_ = reports.Encode(try())
		}
	case len(args) == 2 && args[0] == "trace":
		pid, _ := strconv.Atoi(args[1])
		_ = reports.Encode(trace(pid))
	case len(args) == 1 && args[0] == "idle":
	default:
		os.Exit(64)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until nobody needs us any more
	os.Exit(0)
}

// insideTries run in the namespaces, in this order: the files that the later
// ones use are those of the new /proc, if there is one.
var insideTries = []func() attempt{tryProc, tryPids, tryTimeNS}

func tried(name, what string, err error) attempt {
	a := attempt{Name: name, What: what}
	if err != nil && !errors.As(err, &a.Errno) {
		a.Errno, a.What = unix.EIO, what+": "+err.Error()
	}
	return a
}

// tryProc gives the pid namespace its own /proc.
func tryProc() attempt {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return tried(CheckProc, "keep mounts to the namespace", err)
	}
	err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return tried(CheckProc, "mount /proc", err)
}

// tryPids tries both ways to choose a pid: ns_last_pid and clone3.
func tryPids() attempt {
	const file = "/proc/sys/kernel/ns_last_pid"
	if err := os.WriteFile(file, []byte("1000"), 0); err != nil {
		return tried(CheckPids, "write "+file, err)
	}
	return tried(CheckPids, "clone3 with a chosen pid", cloneAsMyself())
}

// tryTimeNS makes a time namespace and moves its clocks.
func tryTimeNS() attempt {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return tried(CheckTimeNS, "unshare", err)
	}
	const file = "/proc/self/timens_offsets"
	err := os.WriteFile(file, []byte("monotonic 1000 0\nboottime 1000 0\n"), 0)
	return tried(CheckTimeNS, "write "+file, err)
}

// trace stops a process, opens its memory and lets it go on.
func trace(pid int) attempt {
	if err := unix.PtraceSeize(pid); err != nil {
		return tried(CheckPtrace, "seize a process", err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return tried(CheckPtrace, "stop a process", err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return tried(CheckPtrace, "wait for a process to stop", err)
	}
	mem, err := os.OpenFile("/proc/"+strconv.Itoa(pid)+"/mem", os.O_RDWR, 0)
	if err != nil {
		return tried(CheckPtrace, "open the memory of a process", err)
	}
	defer mem.Close()
	return tried(CheckPtrace, "let a process go on", unix.PtraceDetach(pid))
}
