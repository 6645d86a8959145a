// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProbe(t *testing.T) {
	checks := Probe()
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		if c.OK != (c.Fix == "") || c.Detail == "" {
			t.Errorf("%+v: what failed, and only that, must say what to ask for", c)
		}
	}
	want := []string{
		CheckUserNS, CheckPidNS, CheckPids, CheckTimeNS, CheckProc, CheckPtrace,
		CheckYama, CheckKcmp, CheckPagemap, CheckSched, CheckDiag,
	}
	if !slices.Equal(names, want) {
		t.Errorf("checks are %q", names)
	}
	for _, c := range Missing(checks) {
		if c.OK || !c.Needed {
			t.Errorf("%+v is not missing", c)
		}
	}
}

// expect says what must be found: "" that the check passes, else a word of what
// to ask for.
type expect map[string]string

func TestProbeOfSpoiledHost(t *testing.T) {
	tests := map[string]expect{
		"nothing":    {CheckUserNS: "", CheckPidNS: "", CheckPids: "", CheckProc: "", CheckPtrace: "", CheckKcmp: ""},
		"user limit": {CheckUserNS: "user.max_user_namespaces=", CheckPidNS: "see " + CheckUserNS, CheckPids: "see " + CheckPidNS, CheckKcmp: ""},
		"pid limit":  {CheckUserNS: "", CheckPidNS: "user.max_pid_namespaces=", CheckPtrace: "see " + CheckPidNS},
		"time limit": {CheckUserNS: "", CheckPidNS: "", CheckPids: "", CheckTimeNS: "user.max_time_namespaces=", CheckPtrace: ""},
		"masked /proc": {
			CheckUserNS: "", CheckPidNS: "", CheckPids: "", CheckProc: "not masked", CheckPtrace: "",
		},
		"container":     {CheckUserNS: "", CheckPids: "/proc/sys is writable", CheckProc: "not masked", CheckPtrace: ""},
		"no namespaces": {CheckUserNS: "seccomp profile", CheckPidNS: "see " + CheckUserNS, CheckKcmp: ""},
		"no calls": {
			CheckUserNS: "", CheckPidNS: "", CheckProc: "", CheckPids: "clone3", CheckPtrace: "allows ptrace",
			CheckKcmp: "allows kcmp", CheckDiag: "allows AF_NETLINK",
		},
	}
	for mode, want := range tests {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			got := spoiled(t, mode)
			for name, fix := range want {
				c := got[name]
				if c.OK != (fix == "") || !strings.Contains(c.Fix, fix) || c.Name != name {
					t.Errorf("%+v, want a fix with %q", c, fix)
				}
			}
		})
	}
}

// TestChoiceOfPids: outside its own namespaces only root may choose.
func TestChoiceOfPids(t *testing.T) {
	err := cloneAsMyself()
	if os.Geteuid() == 0 && err != nil || os.Geteuid() != 0 && !errors.Is(err, unix.EPERM) {
		t.Errorf("uid %d: %v", os.Geteuid(), err)
	}
}

func fixed(settings map[string]string) sysctls {
	return func(name string) (string, bool) {
		v, ok := settings[name]
		return v, ok
	}
}

func TestFixes(t *testing.T) {
	tests := []struct {
		name     string
		settings map[string]string
		check    string
		err      error
		want     []string
	}{
		{"Debian", map[string]string{"kernel.unprivileged_userns_clone": "0"}, CheckUserNS, unix.EPERM, []string{"sysctl kernel.unprivileged_userns_clone=1"}},
		{"Ubuntu", map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "1"}, CheckPids, unix.EACCES, []string{"kernel.apparmor_restrict_unprivileged_userns=0", "userns,"}},
		{"both", map[string]string{"kernel.unprivileged_userns_clone": "0", "kernel.apparmor_restrict_unprivileged_userns": "1"}, CheckUserNS, unix.EPERM, []string{"kernel.unprivileged_userns_clone=1; and sysctl kernel.apparmor"}},
		{"SELinux", map[string]string{"kernel.unprivileged_userns_clone": "1"}, CheckUserNS, unix.EACCES, []string{"SELinux"}},
		{"limit", map[string]string{"user.max_user_namespaces": "0", "user.max_pid_namespaces": "5"}, CheckUserNS, unix.ENOSPC, []string{"sysctl user.max_user_namespaces=16384"}},
		{"limit reached", map[string]string{"user.max_user_namespaces": "4"}, CheckUserNS, unix.ENOSPC, []string{"raise user.max_user_namespaces", "is reached"}},
		{"no time limit", map[string]string{"user.max_time_namespaces": "0"}, CheckTimeNS, unix.ENOSPC, []string{"user.max_time_namespaces=16384"}},
		{"old kernel", nil, CheckUserNS, unix.EINVAL, []string{"CONFIG_USER_NS"}},
		{"old kernel, clocks", nil, CheckTimeNS, unix.EINVAL, []string{"CONFIG_TIME_NS"}},
		{"old kernel, pids", nil, CheckPids, unix.ENOENT, []string{"CONFIG_CHECKPOINT_RESTORE"}},
		{"Yama", map[string]string{"kernel.yama.ptrace_scope": "3"}, CheckPtrace, unix.EPERM, []string{"kernel.yama.ptrace_scope=2", "reboot"}},
		{"Yama for admins", map[string]string{"kernel.yama.ptrace_scope": "2"}, CheckPtrace, unix.EPERM, []string{"sysctl kernel.yama.ptrace_scope=0"}},
		{"unknown", nil, CheckUserNS, errSilent, []string{"user namespaces"}},
	}
	for _, tt := range tests {
		got := insideFix(fixed(tt.settings), tt.check, tt.err)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q in it", tt.name, got, want)
			}
		}
	}
}

func TestYama(t *testing.T) {
	traced := []Check{{Name: CheckPtrace, OK: true}}
	tests := []struct {
		scope  string
		checks []Check
		ok     bool
		text   string
	}{
		{"", traced, true, "does not restrict"},
		{"0", nil, true, "does not restrict"},
		{"1", traced, true, "others cannot be adopted"},
		{"2", traced, true, "others cannot be adopted"},
		{"1", nil, false, "kernel.yama.ptrace_scope=0"},
		{"3", traced, false, "reboot"},
	}
	for _, tt := range tests {
		settings := map[string]string{"kernel.yama.ptrace_scope": tt.scope}
		if tt.scope == "" {
			settings = nil
		}
		c := yamaCheck(fixed(settings), tt.checks)
		if c.OK != tt.ok || !strings.Contains(c.Detail+" "+c.Fix, tt.text) {
			t.Errorf("scope %q: %+v, want %q in it", tt.scope, c, tt.text)
		}
	}
}

// TestCallsOfThisKernel: what the kernel has must be found.
func TestCallsOfThisKernel(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	if c := pagemapCheck(); c.OK != (major > 6 || major == 6 && minor >= 7) {
		t.Errorf("Linux %d.%d: %+v", major, minor, c)
	}
	b, err := os.ReadFile("/proc/self/sched")
	if c := schedCheck(); c.OK != (err == nil && strings.Contains(string(b), "se.exec_start")) {
		t.Errorf("/proc/self/sched is %q, %v: %+v", b, err, c)
	}
}

func TestCheckString(t *testing.T) {
	c := Check{Name: "ptrace", Detail: "seize a process: operation not permitted", Fix: "sysctl x=0"}
	if got := c.String(); got != "ptrace: seize a process: operation not permitted; ask the administrator for: sysctl x=0" {
		t.Error(got)
	}
	if got := (Check{Name: "kcmp", OK: true, Detail: "works"}).String(); got != "kcmp: works" {
		t.Error(got)
	}
}

// TestPeerAmongAttributes: the kernel may put others before the peer.
func TestPeerAmongAttributes(t *testing.T) {
	b := make([]byte, nlHeader+diagMessage)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	for _, a := range [][2]uint32{{1<<16 | 6, 7}, {3<<16 | 8, 8}, {unixDiagPeer<<16 | 8, 9}} { // length and type, value
		b = binary.NativeEndian.AppendUint32(b, a[0])
		b = binary.NativeEndian.AppendUint32(b, a[1])
	}
	if peer, err := peerOf(b); peer != 9 || err != nil {
		t.Errorf("peer %d, %v", peer, err)
	}
}

func TestPeerOf(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 19), make([]byte, 20), make([]byte, 64)} {
		if peer, err := peerOf(b); err == nil {
			t.Errorf("%d bytes name the peer %d", len(b), peer)
		}
	}
	refused := make([]byte, 36)
	refused[4], refused[16], refused[17], refused[18], refused[19] = unix.NLMSG_ERROR, 0xfe, 0xff, 0xff, 0xff
	if _, err := peerOf(refused); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a refusal is read as %v", err)
	}
}
