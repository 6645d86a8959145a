// SPDX-License-Identifier: Apache-2.0

// Package guest runs commands under other kernels and on other processors: in a
// machine of qemu, with a kernel of Debian and this machine's own files.
//
// guest.go   a guest: what is shared with it, how it is started and judged
// kernel.go  where the kernel comes from
// cpio.go    the initramfs
// init       process 1, until the root is there; then enter
//
// The processor is emulated (TCG): a feature that is missing is really missing, and
// the machine needs nothing. Programs run 2 to 20 times slower than here, so nothing
// may be timed in a guest.
package guest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// Config says what machine a command is to run in.
type Config struct {
	Kernel  string        // of Debian, without its last number: "6.1"
	CPU     string        // as qemu calls it; "": the best that it can emulate
	Memory  int           // MiB; 0: 1024
	UID     int           // who runs the command
	Modules []string      // of the kernel, besides those that the guest itself needs
	Shares  []string      // directories that are the same ones here and there; everything else is read-only
	Append  string        // to the kernel's command line
	Limit   time.Duration // 0: five minutes
}

// Result is what came of a command.
type Result struct {
	Status int    // -1: there is none, the machine has crashed or was too slow
	Output string // standard output and error
	Serial string // what the kernel had to say
}

// enter runs when the root is there. It finds what is to be done in /run/guest, and
// leaves there what came of it.
//
//go:embed enter
var enter []byte

// Run runs a command of the shell in a guest. It skips the test where there is no
// qemu or no kernel.
func Run(t testing.TB, c Config, command string) Result {
	t.Helper()
	harness.Programs(t, []string{"qemu-system-x86_64", "busybox", "xz"}, []string{"qemu-system-x86", "busybox-static", "xz-utils"})
	k := find(t, c.Kernel)
	dir := t.TempDir()
	initramfs := filepath.Join(dir, "initramfs")
	shared := filepath.Join(dir, "ctl")
	err := errors.Join(
		os.Mkdir(shared, 0o755), k.initramfs(initramfs, c.Modules),
		os.WriteFile(filepath.Join(shared, "enter"), enter, 0o755),
		os.WriteFile(filepath.Join(shared, "command"), []byte(command), 0o755),
		os.WriteFile(filepath.Join(shared, "uid"), []byte(strconv.Itoa(c.UID)), 0o600),
		os.WriteFile(filepath.Join(shared, "shares"), []byte(c.shares()), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	if c.Limit == 0 {
		c.Limit = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), c.Limit)
	defer cancel()
	serial, err := exec.CommandContext(ctx, "qemu-system-x86_64", c.flags(k, initramfs, shared)...).CombinedOutput()
	r := Result{Status: -1, Serial: string(serial)}
	output, _ := os.ReadFile(filepath.Join(shared, "output")) // not there: it did not come so far
	r.Output = string(output)
	if status, e := os.ReadFile(filepath.Join(shared, "status")); e == nil {
		_, e = fmt.Sscan(string(status), &r.Status)
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Logf("qemu: %v", errors.Join(err, ctx.Err()))
	}
	return r
}

func (r Result) String() string {
	return fmt.Sprintf("status %d\n%s\nserial: %s", r.Status, r.Output, r.Serial)
}

// shares lists, for enter, what is mounted where.
func (c Config) shares() string {
	var b strings.Builder
	for i, dir := range c.Shares {
		fmt.Fprintf(&b, "share%d %s\n", i, dir)
	}
	return b.String()
}

func (c Config) flags(k kernel, initramfs, shared string) []string {
	cpu, memory := "max", 1024
	if c.CPU != "" {
		cpu = c.CPU
	}
	if c.Memory != 0 {
		memory = c.Memory
	}
	flags := []string{
		"-M", "q35", "-accel", "tcg,thread=multi", "-cpu", cpu, "-smp", "1", "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", k.vmlinux, "-initrd", initramfs,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off " + c.Append,
		// multidevs: what is mounted below / here has inodes of its own
		"-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
		"-virtfs", "local,path=" + shared + ",mount_tag=ctl,security_model=none",
	}
	for i, dir := range c.Shares {
		flags = append(flags, "-virtfs", fmt.Sprintf("local,path=%s,mount_tag=share%d,security_model=passthrough", dir, i))
	}
	return flags
}
