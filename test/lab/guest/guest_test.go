// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// TestGuest: a command runs under the kernel that was asked for, as the user that was
// asked for, and what it writes to a share is here.
func TestGuest(t *testing.T) {
	if !harness.All() {
		t.Skip("fetches a kernel: ESKY_TEST=all")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	r := Run(t, Config{Kernel: "6.1", UID: 1000, CPU: "EPYC", Shares: []string{dir}, Modules: []string{"unix_diag"}},
		"uname -r; id -u; grep -c avx512 /proc/cpuinfo; echo from the guest >"+dir+"/file; ls -d /sys/module/unix_diag; touch /usr/new || exit 7")
	if want := "\n1000\n0\n/sys/module/unix_diag\n"; r.Status != 7 || !strings.HasPrefix(r.Output, "6.1.") || !strings.Contains(r.Output, want) {
		t.Error(r)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "from the guest\n" {
		t.Errorf("the share has %q, %v", b, err)
	}
}
