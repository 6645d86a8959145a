// SPDX-License-Identifier: Apache-2.0

// Package criu runs the provider criu where Debian's criu works: in a guest with
// Debian's own kernel.
package criu

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
	"github.com/esky-hpc/esky/test/lab/guest"
)

func TestMain(m *testing.M) { harness.Main(m) }

// modules are those that criu wants; crc32c_generic is one that nf_tables asks for
// only once it is loaded.
var modules = strings.Fields("crc32c_generic nf_tables unix_diag inet_diag tcp_diag udp_diag netlink_diag af_packet_diag tun veth")

// inGuest runs a command of the shell in a guest, in a directory that has the files.
func inGuest(t *testing.T, dir, command string) {
	t.Helper()
	if !harness.All() {
		t.Skip("needs a machine of qemu: ESKY_TEST=all")
	}
	harness.Programs(t, []string{"criu"}, []string{"criu"})
	r := guest.Run(t, guest.Config{Kernel: "6.1", Modules: modules, Shares: []string{dir}, Limit: 10 * time.Minute}, "export FILES="+dir+"\n"+command)
	if r.Status != 0 || strings.Contains(r.Output, "--- SKIP") {
		t.Error(r)
	}
}

// TestConformance: jobs of the provider are checkpointed, killed, resumed, and finish
// with the right output.
func TestConformance(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "criu.test"), "./internal/criu")
	build.Dir, build.Env = harness.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	inGuest(t, dir, "$FILES/criu.test -test.v")
}

// scenario has a job that is checkpointed, killed, and resumed; and what is refused.
//
//go:embed scenario
var scenario string

// TestRun: esky-wrap saves and resumes by criu.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	harness.CopyProgram(t, harness.Wrap(), filepath.Join(dir, "esky-wrap"))
	inGuest(t, dir, scenario)
}
