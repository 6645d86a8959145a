// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// few are the stressors that are run when not everything is: each has once shown
// a fault that no program of ours had.
var few = []string{"access", "mprotect", "switch", "get"}

// unfit are stressors that would take all of the machine's memory, processes or
// disk, or that do something to the host.
var unfit = strings.Fields(`
	bigheap brk stack stackmmap zombie resources oom-pipe cpu-online swap dev dev-shm fork
	vfork vforkmany daemon loop sysfs cyclic smi physpage procfs tmpfs hdd far-branch sysinval
	iomix vm-addr tlb-shootdown mmapmany mlockmany pageswap remap rmap tree tsearch enosys bad-ioctl softlockup
	watchdog module apparmor netdev rawdev rawpkt rawudp rawsock netlink-proc netlink-task
	uprobe kvm spawn exec ramfs binderfs bind-mount chroot reboot quota sctp dccp icmp-flood
	ping-sock sockmany sockpair`)

// refusals are what may be said of stressors that use what is not carried.
var refusals = map[string]string{
	"clone":       "clone without CLONE_THREAD",
	"lease":       "waiting for the program to give up its lease",
	"mq":          "netlink sockets",
	"pthread":     "descriptor of a namespace",
	"ptrace":      "is being traced",
	"secretmem":   "secret memory",
	"sock":        "memory of a socket",
	"sockdiag":    "netlink sockets",
	"usersyscall": "dispatched to itself",
	"vm-rw":       "clone without CLONE_THREAD",
	"vm-segv":     "is being traced",
}

// TestStressors runs what stress-ng(1) has: programs that each keep one part of
// what the kernel offers busy, and look at what they get (--verify).
func TestStressors(t *testing.T) {
	harness.Programs(t, []string{"stress-ng"}, []string{"stress-ng"})
	names := few
	if harness.All() {
		out, err := exec.Command("stress-ng", "--stressors").Output()
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(strings.Fields(string(out)), func(s string) bool { return slices.Contains(unfit, s) })
	}
	slots := make(chan struct{}, max(1, runtime.NumCPU()))
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			stressor(t, name)
		})
	}
}

// stressor lets one run for some seconds, of which it does not notice the ones in
// which it was saved and away.
func stressor(t *testing.T, name string) {
	argv := []string{"stress-ng", "--" + name, "1", "--verify", "--timeout"}
	if o := harness.NewJob(t).Command(append(argv, "1")...); o.Status != 0 || strings.Contains(o.String(), "skipped") {
		t.Skipf("it does not work here: %s", o)
	}
	j := harness.NewJob(t, append(argv, "8")...)
	r := j.Start()
	time.Sleep(1500 * time.Millisecond)
	for _, flags := range [][]string{nil, {"--stop"}} {
		o := j.Esky("checkpoint", flags...)
		why, mayBe := refusals[name]
		if mayBe && o.Status == harness.ExitHost && strings.Contains(o.String(), why) {
			r.WaitFor(0)
			return
		}
		if o.Status != 0 {
			t.Fatalf("checkpoint: %s", o)
		}
	}
	r.WaitFor(harness.ExitAgain)
	j.Start().WaitFor(0) // another status, if a check failed
}
