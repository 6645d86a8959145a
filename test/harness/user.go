// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// AsUser is for the TestMain of a package whose tests start jobs from inside
// the test program: it runs the tests, and where root has started them it runs
// them in a copy of the test program that belongs to an ordinary user. What
// prepare makes in the directory it is given, which is also $TMPDIR and the home
// of that user, it makes before that; prepare may be nil.
func AsUser(m *testing.M, prepare func(dir string) error) int {
	if os.Getenv(preparedVar) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "esky-user-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if prepare != nil {
		if err := prepare(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	os.Setenv(preparedVar, dir)
	if os.Getuid() != 0 {
		return m.Run()
	}
	code, err := runAsUser(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const preparedVar = "ESKY_TEST_PREPARED"

// Prepared is the path of something that prepare has made.
func Prepared(name string) string { return filepath.Join(os.Getenv(preparedVar), name) }

func runAsUser(dir string) (int, error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	program := filepath.Join(dir, filepath.Base(os.Args[0]))
	if err := os.WriteFile(program, self, 0o755); err != nil {
		return 0, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		return 0, err
	}
	cmd := exec.Command(program, ownFiles(os.Args[1:])...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// ownFiles leaves out the flags by which "go test" asks for files of its own in
// places where the user cannot write.
func ownFiles(args []string) []string {
	var kept []string
	for _, a := range args {
		if !strings.HasPrefix(a, "-test.testlogfile=") && !strings.HasPrefix(a, "-test.gocoverdir=") {
			kept = append(kept, a)
		}
	}
	return kept
}
