// SPDX-License-Identifier: Apache-2.0

// Package native tests the interfaces of schedulers that cannot be had here: the
// real programs are called, or started, as those schedulers document that they do,
// with real jobs.
package native

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// steps is how far the job counts; it takes some seconds.
const steps = 60

const counting = `i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; sleep 0.05; done`

// stand is a stand-in for a scheduler's daemon on a host: it starts a job, and
// calls what it is configured to call.
type stand struct {
	t    *testing.T
	dir  string // of the job's user
	root string // of root's alone, where the daemon keeps things
	hook string
	user uint32
	env  []string // what the scheduler sets in a job
}

func newStand(t *testing.T, user uint32, env ...string) *stand {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a scheduler's daemon is root")
	}
	s := &stand{t: t, dir: harness.Dir(t), root: t.TempDir(), user: user, env: env}
	if err := os.Chown(s.dir, int(user), int(user)); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.hook, err = install(); err != nil {
		t.Fatal(err)
	}
	return s
}

// install puts the hook beside the esky-wrap that is tested, once.
var install = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(harness.Wrap()), "esky-hook")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/esky-hook")
	cmd.Dir, cmd.Env = harness.Root(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// as is a command of the job's user, or of root, in a session of its own.
func (s *stand) as(user uint32, env []string, line ...string) *exec.Cmd {
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.Env = s.dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if user != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	}
	return cmd
}

// running is a job that was started.
type running struct {
	*exec.Cmd
	ended chan struct{}
}

// start starts a job with its output in files, and waits until it has counted to
// the number.
func (s *stand) start(upTo int, line ...string) *running {
	s.t.Helper()
	cmd := s.as(s.user, s.jobEnv(), line...)
	cmd.Stdout, cmd.Stderr = s.file("out"), s.file("err")
	r := s.begin(cmd)
	s.until(fmt.Sprint("the job has counted to ", upTo), func() bool { return len(s.numbers()) >= upTo })
	return r
}

func (s *stand) begin(cmd *exec.Cmd) *running {
	s.t.Helper()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	r := &running{cmd, make(chan struct{})}
	go func() { _ = cmd.Wait(); close(r.ended) }()
	s.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); <-r.ended })
	return r
}

func (s *stand) jobEnv() []string {
	return append([]string{
		"PATH=/usr/bin:/bin", "HOME=" + s.dir, "ESKY_STORE=" + filepath.Join(s.dir, "store"),
		"ESKY_RESUBMIT=touch " + filepath.Join(s.dir, "resubmitted"), "OF_THE_JOB=yes",
	}, s.env...)
}

func (s *stand) file(name string) *os.File {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		err = os.Chown(path, int(s.user), int(s.user))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	return f
}

// wrapped is the line of a job that counts.
func wrapped() []string {
	return []string{harness.Wrap(), "run", "--keep", "3", "--", "sh", "-c", fmt.Sprintf(counting, steps)}
}

// call runs what the scheduler calls, as root or as the user.
func (s *stand) call(user uint32, env []string, line ...string) (int, string) {
	s.t.Helper()
	cmd := s.as(user, env, line...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (s *stand) numbers() []string {
	text, err := os.ReadFile(filepath.Join(s.dir, "out"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// complete checks that the job has counted to its end, and said no number twice.
func (s *stand) complete() {
	s.t.Helper()
	got := s.numbers()
	for i, n := range got {
		if n != strconv.Itoa(i+1) {
			s.t.Fatalf("the output goes %v …", got[:i+1])
		}
	}
	if len(got) != steps {
		s.t.Errorf("the job has counted to %d, not to %d", len(got), steps)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "resubmitted")); err == nil {
		s.t.Error("esky has queued the job again, which the scheduler does")
	}
}

func (s *stand) until(what string, cond func() bool) {
	s.t.Helper()
	for end := time.Now().Add(harness.Patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "err"))
			s.t.Fatalf("waited for: %s\n%s", what, text)
		}
	}
}

// status waits for the end of a job.
func (s *stand) status(r *running) int {
	s.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(harness.Patience):
		s.t.Fatal("the job does not end")
	}
	return r.ProcessState.ExitCode()
}

// runs tells whether the job goes on counting.
func (s *stand) runs() bool {
	before := len(s.numbers())
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if len(s.numbers()) > before {
			return true
		}
	}
	return false
}
