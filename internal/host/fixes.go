// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

// sysctls looks up a setting by its name; false if this kernel has none such.
type sysctls func(name string) (value string, ok bool)

func readSysctl(name string) (string, bool) {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(b)), err == nil
}

// is reports whether a setting exists and has the value.
func (s sysctls) is(name, value string) bool {
	v, ok := s(name)
	return ok && v == value
}

func denied(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// namespaceFix says why the job's namespaces could not be made and what to ask
// for. The errors are those of clone(2) and user_namespaces(7).
func namespaceFix(s sysctls, err error) string {
	switch {
	case errors.Is(err, errNoUserNS):
		return "see " + CheckUserNS
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return limitFix(s)
	case denied(err):
		return deniedFix(s)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return "Linux 5.9 or newer with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_CHECKPOINT_RESTORE"
	}
	return "unprivileged user namespaces for this user"
}

// limitFix names the limits that are zero, or all of them if none is: then
// they are used up, possibly further up in nested namespaces.
func limitFix(s sysctls) string {
	names := []string{"user.max_user_namespaces", "user.max_pid_namespaces", "user.max_mnt_namespaces", "user.max_time_namespaces"}
	var zero []string
	for _, n := range names {
		if s.is(n, "0") {
			zero = append(zero, n+"=16384")
		}
	}
	if zero == nil {
		return "raise " + strings.Join(names, ", ") + ": one of the limits is reached"
	}
	return "sysctl " + strings.Join(zero, " ")
}

// deniedFix names what forbids user namespaces, or the powers inside them.
func deniedFix(s sysctls) string {
	var asks []string
	if s.is("kernel.unprivileged_userns_clone", "0") { // Debian, Arch
		asks = append(asks, "sysctl kernel.unprivileged_userns_clone=1")
	}
	if s.is("kernel.apparmor_restrict_unprivileged_userns", "1") { // Ubuntu 23.10 and later
		asks = append(asks, "sysctl kernel.apparmor_restrict_unprivileged_userns=0, "+
			"or an AppArmor profile for esky-wrap with the rule `userns,`")
	}
	if seccompFiltered() {
		asks = append(asks, "a seccomp profile of the container (or service) that allows clone and unshare with CLONE_NEWUSER, "+
			"clone3, mount, ptrace and kcmp")
	}
	if asks == nil {
		return "unprivileged user namespaces for this user, with all capabilities inside: " +
			"a security module (SELinux, AppArmor, …) or a chroot forbids them"
	}
	return strings.Join(asks, "; and ")
}

// seccompFiltered reports whether a seccomp filter is on this process, which is
// how container runtimes forbid system calls.
func seccompFiltered() bool {
	st, err := procfs.ReadStatus(os.Getpid(), 0)
	return err == nil && st.Seccomp == 2
}

// insideFix says what to ask for when something fails in the namespaces.
func insideFix(s sysctls, name string, err error) string {
	if errors.Is(err, errNoPidNS) {
		return "see " + CheckPidNS
	}
	switch name {
	case CheckProc:
		if denied(err) {
			return "a container whose /proc is not masked (docker: --security-opt systempaths=unconfined; " +
				"podman: --security-opt unmask=ALL); until then a job sees the host's pids in /proc"
		}
	case CheckPids:
		return pidsFix(s, err)
	case CheckTimeNS:
		return timeFix(s, err)
	case CheckPtrace:
		return ptraceFix(s, err)
	}
	return namespaceFix(s, err)
}

func pidsFix(s sysctls, err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return "a container whose /proc/sys is writable, or whose /proc is not masked: ns_last_pid must be written there"
	case errors.Is(err, unix.ENOSYS) && seccompFiltered():
		return "a seccomp profile of the container that allows clone3"
	case errors.Is(err, unix.ENOENT):
		return "a kernel with CONFIG_CHECKPOINT_RESTORE"
	}
	return namespaceFix(s, err)
}

func timeFix(s sysctls, err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return limitFix(s)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return "Linux 5.6 or newer with CONFIG_TIME_NS; without it CLOCK_MONOTONIC of a resumed job jumps"
	}
	return namespaceFix(s, err)
}

const yamaReboot = "kernel.yama.ptrace_scope=2 or less in /etc/sysctl.d, and a reboot"

func ptraceFix(s sysctls, err error) string {
	if scope, ok := s("kernel.yama.ptrace_scope"); ok && scope == "3" {
		return yamaReboot
	}
	if s.is("kernel.yama.ptrace_scope", "2") || s.is("kernel.yama.ptrace_scope", "1") {
		return "sysctl kernel.yama.ptrace_scope=0"
	}
	return callFix(err, "ptrace", "")
}

// callFix is for a system call that is forbidden, or not in the kernel.
func callFix(err error, call, config string) string {
	switch {
	case denied(err) && seccompFiltered(), errors.Is(err, unix.ENOSYS) && seccompFiltered():
		return "a seccomp profile of the container (or service) that allows " + call
	case denied(err):
		return call + " for this user: a security module (SELinux, AppArmor, Yama, …) forbids it"
	case config != "":
		return "a kernel with " + config
	}
	return "a kernel that has " + call
}
