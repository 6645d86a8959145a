// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A spoiled host is this one, seen from a user namespace in which something was
// really taken away: by a sysctl, a mount or a seccomp filter. The test starts
// itself there, takes it away, and executes itself once more without any
// capability to report what Probe finds.

const (
	spoilVerb  = "__spoil"
	reportVerb = "__report"
	someUser   = 1000 // anyone but root
)

func init() {
	if len(os.Args) > 1 && os.Args[1] == spoilVerb {
		runtime.LockOSThread() // capabilities are those of a thread
	}
}

var spoilers = map[string]func() error{
	"nothing":       func() error { return nil },
	"user limit":    func() error { return setLimit("user") },
	"pid limit":     func() error { return setLimit("pid") },
	"time limit":    func() error { return setLimit("time") },
	"masked /proc":  maskProc,
	"container":     spoilAll(maskProc, protectSys),
	"no namespaces": func() error { return filter(denyFlags(unix.SYS_CLONE, unix.CLONE_NEWUSER, unix.EPERM)) },
	"no calls": func() error {
		return filter(deny(unix.SYS_PTRACE, unix.EPERM), deny(unix.SYS_KCMP, unix.EPERM), deny(unix.SYS_CLONE3, unix.ENOSYS),
			denyFlags(unix.SYS_SOCKET, unix.AF_NETLINK, unix.EACCES))
	},
}

func spoilAll(steps ...func() error) func() error {
	return func() error {
		for _, s := range steps {
			if err := s(); err != nil {
				return err
			}
		}
		return nil
	}
}

func setLimit(kind string) error {
	return os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte("0"), 0)
}

// maskProc hides a part of /proc, as container runtimes do.
func maskProc() error {
	return unix.Mount("tmpfs", "/proc/tty", "tmpfs", unix.MS_RDONLY, "")
}

// protectSys makes /proc/sys read-only, as they also do.
func protectSys() error {
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func spoilMain(mode string) {
	if err := spoilers[mode](); err != nil {
		fmt.Fprintln(os.Stderr, "spoil:", err)
		os.Exit(1)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "drop capabilities:", err)
		os.Exit(1)
	}
	err := unix.Exec("/proc/self/exe", []string{"report", reportVerb}, nil)
	fmt.Fprintln(os.Stderr, "exec:", err)
	os.Exit(1)
}

func reportMain() {
	if err := json.NewEncoder(os.Stdout).Encode(Probe()); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// spoiled gives what Probe finds on a spoiled host, by name.
func spoiled(t *testing.T, mode string) map[string]Check {
	t.Helper()
	if err := inUserNamespace(); err != nil {
		t.Skipf("this host does not let uid %d make a user namespace, in which it could be spoiled: %v", os.Getuid(), err)
	}
	cmd := exec.Command("/proc/self/exe", spoilVerb, mode)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: someUser, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: someUser, HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE},
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var checks []Check
	if err := json.Unmarshal(out, &checks); err != nil {
		t.Fatal(err)
	}
	byName := map[string]Check{}
	for _, c := range checks {
		byName[c.Name] = c
	}
	return byName
}

// Classic BPF, see seccomp(2) and linux/filter.h. A rule is a piece of program
// that returns an errno or falls through.
type rule []unix.SockFilter

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	ret    = unix.BPF_RET | unix.BPF_K
	number = 0  // offset of seccomp_data.nr
	arg0   = 16 // and of the first argument
)

func deny(nr uint32, errno syscall.Errno) rule {
	return rule{
		{Code: load, K: number},
		{Code: equal, K: nr, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
	}
}

// denyFlags denies the call if its first argument has one of the bits.
func denyFlags(nr, bits uint32, errno syscall.Errno) rule {
	return rule{
		{Code: load, K: number},
		{Code: equal, K: nr, Jf: 3},
		{Code: load, K: arg0},
		{Code: anyBit, K: bits, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
	}
}

// filter puts the rules on all threads of this process.
func filter(rules ...rule) error {
	var program []unix.SockFilter
	for _, r := range rules {
		program = append(program, r...)
	}
	program = append(program, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
