// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInstall installs and uninstalls under a DESTDIR.
func TestInstall(t *testing.T) {
	dest := t.TempDir()
	installed := []string{
		"bin/esky-wrap", "bin/esky-hook", "bin/esky-provider", "include/esky.h", "share/doc/esky/README.md", "share/doc/esky/docs/limits.md",
		"libexec/esky/scheduler-hooks/slurm/prolog", "libexec/esky/scheduler-hooks/slurm/epilog",
		"libexec/esky/scheduler-hooks/lsf/echkpnt.esky", "libexec/esky/scheduler-hooks/pbs/torque-restart",
	}
	for _, target := range []string{"install", "uninstall"} {
		cmd := exec.Command("make", "-s", target, "PREFIX=/opt/esky", "DESTDIR="+dest)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
		for _, name := range installed {
			_, err := os.Lstat(filepath.Join(dest, "opt/esky", name))
			if (err == nil) != (target == "install") {
				t.Errorf("after make %s, %s: %v", target, name, err)
			}
		}
	}
}
