// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
)

func TestDescribe(t *testing.T) {
	h, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if h.Kernel != strings.TrimSpace(string(release)) || h.Hostname != name || h.Arch != runtime.GOARCH || h.PageSize != uint32(os.Getpagesize()) {
		t.Errorf("host is %v", h)
	}
	_, code, err := VDSO()
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(code); !bytes.Equal(sum[:], h.VdsoSha256) || !bytes.HasPrefix(code, []byte("\x7fELF")) {
		t.Errorf("vDSO of %d bytes has hash %x, described as %x", len(code), sum, h.VdsoSha256)
	}
}

// TestFeatures compares with what another reader of CPUID found.
func TestFeatures(t *testing.T) {
	c, err := readCPU()
	if err != nil {
		t.Fatal(err)
	}
	for name, has := range map[string]bool{
		"pni": cpu.X86.HasSSE3, "sse4_2": cpu.X86.HasSSE42, "avx": cpu.X86.HasAVX, "avx2": cpu.X86.HasAVX2, "bmi2": cpu.X86.HasBMI2,
		"fma": cpu.X86.HasFMA, "aes": cpu.X86.HasAES, "popcnt": cpu.X86.HasPOPCNT, "rdrand": cpu.X86.HasRDRAND, "adx": cpu.X86.HasADX,
		"avx512f": cpu.X86.HasAVX512F, "avx512bw": cpu.X86.HasAVX512BW, "avx512_vnni": cpu.X86.HasAVX512VNNI, "amx_tile": cpu.X86.HasAMXTile,
	} {
		if slices.Contains(c.features, name) != has {
			t.Errorf("%s: the processor has it: %v, features are %v", name, has, c.features)
		}
	}
	if !slices.IsSorted(c.features) || c.model == "" {
		t.Errorf("CPU is %+v", c)
	}
}

func TestParseCPUInfo(t *testing.T) {
	in := "processor\t: 0\nmodel name\t: AMD EPYC 7502 32-Core Processor\n" +
		"flags\t\t: sse2 avx fpu avx avx512_newest vmx nopl constant_tsc hypervisor erms fsrm xsaves ibrs pti smep umip\nbugs\t\t: spectre_v1\n\n" +
		"processor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n"
	c, err := parseCPUInfo(strings.NewReader(in))
	if err != nil || c.model != "AMD EPYC 7502 32-Core Processor" || !slices.Equal(c.features, []string{"avx", "avx512_newest", "fpu", "sse2"}) {
		t.Errorf("CPU is %+v, %v", c, err)
	}
	for _, in := range []string{"", "processor\t: 0\n", "flags\t: nopl\n"} {
		if c, err := parseCPUInfo(strings.NewReader(in)); err == nil {
			t.Errorf("%q was read as %+v", in, c)
		}
	}
}

// sleeper starts a process that sleeps until the test ends.
func sleeper(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestVDSOOfOthers: the digest must be the same in every process, wherever the
// kernel put it.
func TestVDSOOfOthers(t *testing.T) {
	base, code, err := VDSO()
	if err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t)
	maps, err := procfs.ReadMaps(pid)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(maps, func(m procfs.Mapping) bool { return m.Path == "[vdso]" })
	if i < 0 {
		t.Fatal("another process has no vDSO")
	}
	theirs := make([]byte, maps[i].Size())
	local := []unix.Iovec{{Base: &theirs[0], Len: uint64(len(theirs))}}
	remote := []unix.RemoteIovec{{Base: uintptr(maps[i].Start), Len: len(theirs)}}
	if _, err := unix.ProcessVMReadv(pid, local, remote, 0); err != nil {
		t.Fatal(err)
	}
	if base == 0 || !bytes.Equal(code, theirs) {
		t.Errorf("vDSO at %#x of %d bytes is not that of pid %d", base, len(code), pid)
	}
}

// TestExtendedState wants the size and the components that ptrace gives, which
// is what images hold.
func TestExtendedState(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid := sleeper(t)
	if err := unix.PtraceSeize(pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	xstate, err := xstateOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	xcr0, size := extendedState()
	if int(size) != len(xstate) || xcr0 != xcr0Of(xstate) {
		t.Errorf("size %d and components %#x; ptrace gives %d and %#x", size, xcr0, len(xstate), xcr0Of(xstate))
	}
}
