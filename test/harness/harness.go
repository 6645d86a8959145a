// SPDX-License-Identifier: Apache-2.0

// Package harness runs jobs under esky-wrap from the outside, as a user would:
// it knows the command line, the exit codes and the layout of a store, and
// nothing of what is inside.
//
// Jobs always run as an ordinary user. Tests that are started by root (in a
// container, in continuous integration) give up that power for every command
// of a job; uid 1000 needs no entry in the password file. What a test needs on
// disk lies in a directory of its own that this user can reach, and the
// esky-wrap under test is copied there, because a checkout below /root or with
// mode 0700 is out of reach for that user.
package harness

import (
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// uid is the ordinary user that jobs run as when the tests run as root.
const uid = 1000

// wrap is the path of the copied esky-wrap; Main sets it.
var wrap string

// Main is what TestMain of a package of job tests calls: it builds esky-wrap,
// puts it where the user of the jobs can execute it, and runs the tests.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	keepToOurselves()
	dir, err := os.MkdirTemp("", "esky-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if wrap, err = install(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := sideBySide(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// keepToOurselves closes, for all commands, what the tests were started with
// beside the three standard streams: a pipe that a runner has left open would
// lead out of every job.
func keepToOurselves() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// sideBySide lets more tests run at once than there are CPUs, unless -parallel
// was given: most of the time a test of a job waits. Tests that do not, hold
// each other back themselves.
func sideBySide() error {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(8*runtime.NumCPU()))
}

// install makes a copy of esky-wrap in dir: that of ESKY_WRAP, else one built
// from this checkout.
func install(dir string) (string, error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	from := os.Getenv("ESKY_WRAP")
	if from == "" {
		from = filepath.Join(Root(), "bin", "esky-wrap")
		if err := build("esky-wrap"); err != nil {
			return "", err
		}
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "esky-wrap")
	return to, os.WriteFile(to, data, 0o755)
}

// Program builds another program of this checkout and puts it beside esky-wrap.
func Program(t testing.TB, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	to := filepath.Join(filepath.Dir(wrap), name)
	if _, err := os.Stat(to); err == nil {
		return to // it may be running
	}
	if err := build(name); err != nil {
		t.Fatal(err)
	}
	CopyProgram(t, filepath.Join(Root(), "bin", name), to)
	return to
}

// programs is held while a program is built and copied.
var programs sync.Mutex

// build brings a program in bin up to date. Several test packages may ask for it
// at once; the lock lets them do it one after another.
func build(name string) error {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("esky-build-%d.lock", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	out, err := exec.Command("make", "-s", "-C", Root(), "bin/"+name).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make bin/"+name+": %w\n%s", err, out)
	}
	return nil
}

// Root is the top of the checkout.
var Root = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	panic("the tests do not run inside the checkout")
})

// Wrap is the path of the esky-wrap under test.
func Wrap() string { return wrap }

// Dir is a new directory that belongs to the user of the jobs. It is removed
// after the test, unless the test failed and ESKY_KEEP is set.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "esky-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killLeftovers(dir)
		if t.Failed() && os.Getenv("ESKY_KEEP") != "" {
			t.Logf("kept %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	Give(t, dir)
	return dir
}

// Give hands a file of the test to the user of the jobs.
func Give(t testing.TB, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := os.Lchown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}

// Command is a command of the user of the jobs in dir, with an environment that
// holds nothing of a scheduler and nothing of the person who runs the tests.
func Command(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + dir, "TMPDIR=" + dir,
		"LANG=C", "LC_ALL=C", "USER=job", "ESKY_RUNTIME_DIR=" + filepath.Join(dir, ".run"),
	}
	// A process group of its own: when a group that somebody has left is orphaned,
	// and one of its members is stopped, the kernel hangs up on all of them and
	// continues them (setpgid(2)), and other tests have stopped members.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	return cmd
}

// CopyProgram copies a program to where the user of the jobs can execute it.
func CopyProgram(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	WriteProgram(t, func() error { return os.WriteFile(to, data, 0o755) })
}

// WriteProgram writes what is to be executed while no child is started: it would
// hold the file open for writing, and to execute such a file is ETXTBSY (execve(2)).
func WriteProgram(t testing.TB, write func() error) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := write(); err != nil {
		t.Fatal(err)
	}
}

// Compile builds a C program and returns the path of the result. The test is
// skipped where the compiler is not installed.
func Compile(t testing.TB, out, source, cc string, flags ...string) string {
	t.Helper()
	Need(t, cc, "")
	args := append([]string{"-O1", "-g", "-Wall", "-o", out, source}, flags...)
	if msg, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", cc, strings.Join(args, " "), err, msg)
	}
	return out
}

// Need skips the test where a program is not installed; from names the package
// that has it.
func Need(t testing.TB, program, from string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if from == "" {
		from = map[string]string{"musl-gcc": "musl-tools", "gcc": "gcc", "perl": "perl"}[program]
	}
	t.Skipf("no %s here: install %s", program, from)
}

// Rand is the source of a test's random moments. Its seed is in the output, and
// ESKY_SEED repeats a run.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := time.Now().UnixNano() % 1_000_000
	if s := os.Getenv("ESKY_SEED"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("ESKY_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d (repeat with ESKY_SEED=%d)", seed, seed)
	return rand.New(rand.NewSource(seed))
}
