// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// All says whether everything is to be tested, also what takes long and what
// has to be installed first: ESKY_TEST=all.
func All() bool { return os.Getenv("ESKY_TEST") == "all" }

// Programs skips the test where one of the programs is missing that packages
// of Debian have. They are installed first where everything is to be tested
// and this is allowed.
func Programs(t testing.TB, programs, packages []string) {
	t.Helper()
	none := missing(programs)
	if len(none) == 0 {
		return
	}
	said := "install " + strings.Join(packages, " ")
	if All() {
		said = fetch(t, packages)
		none = missing(programs)
	}
	if len(none) > 0 {
		t.Skipf("no %s here: %s", strings.Join(none, ", "), said)
	}
}

func missing(programs []string) []string {
	var none []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			none = append(none, p)
		}
	}
	return none
}

// fetch runs test/install, one at a time on this machine, and returns what it
// had to say.
func fetch(t testing.TB, packages []string) string {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "esky-install.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(Root(), "test", "install"), packages...).CombinedOutput()
	if err != nil {
		t.Logf("test/install: %v", err)
	}
	return strings.TrimSpace(string(out))
}
