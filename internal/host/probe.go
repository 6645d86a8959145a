// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// Check is one thing that esky wants of a host.
type Check struct {
	Name   string
	OK     bool
	Needed bool   // esky cannot serve jobs here without it; the others cost a feature
	Detail string // what was found, or what goes wrong
	Fix    string // what to ask the administrator for; empty when OK
}

// String is one sentence, with what to ask for.
func (c Check) String() string {
	if c.OK {
		return c.Name + ": " + c.Detail
	}
	return c.Name + ": " + c.Detail + "; ask the administrator for: " + c.Fix
}

// Names of the checks, in the order in which Probe gives them.
const (
	CheckUserNS  = "user namespace"
	CheckPidNS   = "pid namespace"
	CheckPids    = "choice of pids"
	CheckTimeNS  = "time namespace"
	CheckProc    = "own /proc"
	CheckPtrace  = "ptrace"
	CheckYama    = "Yama"
	CheckKcmp    = "kcmp"
	CheckPagemap = "PAGEMAP_SCAN"
	CheckSched   = "/proc/PID/sched"
	CheckDiag    = "unix_diag"
)

// Probe tries what esky needs of this host, as the user that calls it. It takes
// some 20 milliseconds, and 5 seconds at most.
func Probe() []Check {
	checks := probeNamespaces()
	return append(checks, yamaCheck(readSysctl, checks), kcmpCheck(), pagemapCheck(), schedCheck(), diagCheck())
}

// Missing gives those of the needed checks that failed.
func Missing(checks []Check) []Check {
	var out []Check
	for _, c := range checks {
		if c.Needed && !c.OK {
			out = append(out, c)
		}
	}
	return out
}

// verdict makes a Check of the error of an attempt.
func verdict(name string, needed bool, good string, err error, fix func(error) string) Check {
	if err == nil {
		return Check{Name: name, OK: true, Needed: needed, Detail: good}
	}
	return Check{Name: name, Needed: needed, Detail: err.Error(), Fix: fix(err)}
}

// yamaCheck explains ptrace_scope. Whether it is in the way of esky was tried:
// a user is always allowed the processes of user namespaces of their own, up to
// and including scope 2 (security/yama/yama_lsm.c, ns_capable).
func yamaCheck(sysctl sysctls, checks []Check) Check {
	c := Check{Name: CheckYama, OK: true}
	scope, ok := sysctl("kernel.yama.ptrace_scope")
	switch {
	case !ok || scope == "0":
		c.Detail = "does not restrict ptrace"
	case scope == "3":
		c.OK = false
		c.Detail = "kernel.yama.ptrace_scope is 3: no process may trace another until the next reboot"
		c.Fix = yamaReboot
	case passed(checks, CheckPtrace):
		c.Detail = "kernel.yama.ptrace_scope is " + scope + ": jobs started by esky can be checkpointed, others cannot be adopted"
	default:
		c.OK = false
		c.Detail = "kernel.yama.ptrace_scope is " + scope + ": a process may trace its descendants at most"
		c.Fix = "sysctl kernel.yama.ptrace_scope=0, or unprivileged user namespaces, inside which it does not apply"
	}
	return c
}

func passed(checks []Check, name string) bool {
	for _, c := range checks {
		if c.Name == name {
			return c.OK
		}
	}
	return false
}

// kcmpCheck: kcmp(2) tells which descriptors of a job share one description.
func kcmpCheck() Check {
	const kcmpFile = 0
	pid := uintptr(os.Getpid())
	_, _, errno := unix.Syscall6(unix.SYS_KCMP, pid, pid, kcmpFile, 2, 2, 0)
	var err error
	if errno != 0 && errno != unix.EBADF { // it works, but stderr is closed
		err = fmt.Errorf("kcmp: %w", errno)
	}
	return verdict(CheckKcmp, true, "works", err, func(err error) string {
		return callFix(err, "kcmp", "CONFIG_KCMP")
	})
}

// schedCheck: the file tells how long a thread has been waiting.
func schedCheck() Check {
	s, err := procfs.ReadSched(os.Getpid(), os.Getpid())
	if err == nil && !s.OK {
		err = fmt.Errorf("/proc/PID/sched has no se.exec_start")
	}
	return verdict(CheckSched, false, "tells since when a thread waits", err, func(error) string {
		return "a kernel with CONFIG_SCHED_DEBUG; without it the remaining time of some relative waits is not known to esky"
	})
}
