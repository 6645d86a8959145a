// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// mom is a stand-in for pbs_mom: as root, without standard streams, with a few
// variables of the job's and no PATH.
type mom struct {
	*stand
	id, path string
}

func newMom(t *testing.T, id string) *mom {
	m := &mom{stand: newStand(t, 1000, "PBS_JOBID="+id, "PBS_ENVIRONMENT=PBS_BATCH"), id: id}
	m.path = filepath.Join(m.root, id+".CK", "00000001")
	if err := os.Mkdir(filepath.Dir(m.path), 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mom) env() []string {
	return []string{"PBS_JOBID=" + m.id, "PBS_QUEUE=workq", "UID=1000", "GID=1000", "HOME=" + m.dir, "USER=job", "OF_ROOT=yes"}
}

// action is what $action in MoM's configuration calls.
func (m *mom) action(verb string) (int, string) {
	m.t.Helper()
	return m.call(0, m.env(), m.hook, verb, m.id, "1000", "1000", m.path)
}

// restart runs the action of a restart, whose process is the job.
func (m *mom) restart() *running {
	m.t.Helper()
	return m.begin(m.as(0, m.env(), m.hook, "pbs-restart", m.id, "1000", "1000", m.path))
}

// qhold and qrls: the job is saved and ended, and started again.
func TestPBSHoldAndRelease(t *testing.T) {
	t.Parallel()
	m := newMom(t, "11.server")
	job := m.start(5, wrapped()...)
	if status, out := m.action("pbs-abort"); status != 0 {
		t.Fatalf("checkpoint_abort: status %d: %s", status, out)
	}
	if job.ProcessState == nil && syscall.Kill(job.Process.Pid, 0) == nil {
		select {
		case <-job.ended:
		default:
			t.Error("checkpoint_abort returned before the job had ended")
		}
	}
	if s := m.status(job); s != harness.ExitAgain {
		t.Errorf("the job ended with %d", s)
	}
	saved := len(m.numbers())
	if st, err := os.Lstat(m.path); err != nil || st.Mode() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the checkpoint: %v, %v", st, err)
	}
	again := m.restart()
	m.until("the job goes on", func() bool { return len(m.numbers()) > saved })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", again.Process.Pid))
	environ, envErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", again.Process.Pid))
	if err != nil || envErr != nil {
		t.Fatal(err, envErr)
	}
	for _, want := range []string{"Uid:\t1000\t1000\t1000\t1000\n", "Gid:\t1000\t1000\t1000\t1000\n", "CapEff:\t0000000000000000\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	for name, want := range map[string]bool{"OF_THE_JOB=yes": true, "OF_ROOT=yes": false, "PBS_QUEUE=workq": true} {
		if strings.Contains(string(environ), name) != want {
			t.Errorf("%s in the environment: %v", name, !want)
		}
	}
	if s := m.status(again); s != 0 {
		t.Errorf("the job ended with %d", s)
	}
	m.complete()
}

// A periodic checkpoint (qsub -c w=…), after which the host fails.
func TestPBSCheckpointAndCrash(t *testing.T) {
	t.Parallel()
	m := newMom(t, "13.server")
	job := m.start(5, wrapped()...)
	for range 2 { // the next one replaces the first
		if status, out := m.action("pbs-checkpoint"); status != 0 {
			t.Fatalf("checkpoint: status %d: %s", status, out)
		}
	}
	if !m.runs() {
		t.Fatal("the job does not run on")
	}
	for _, p := range harness.Tree(job.Process.Pid) {
		_ = syscall.Kill(p.Pid, syscall.SIGKILL)
	}
	m.status(job)
	if s := m.status(m.restart()); s != 0 {
		t.Errorf("the job ended with %d", s)
	}
	m.complete()
}

// The job script is given to a login shell by its name, through a pipe.
func TestPBSLoginShell(t *testing.T) {
	t.Parallel()
	m := newMom(t, "14.server")
	script := filepath.Join(m.dir, "14.server.SC")
	text := "#!/bin/sh\nexec " + harness.Wrap() + " run -- sh -c '" + fmt.Sprintf(counting, steps) + "'\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := m.as(m.user, m.jobEnv(), "/bin/bash")
	cmd.Args = []string{"-bash"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script+"\n"), m.file("out"), m.file("err")
	job := m.begin(cmd)
	m.until("the job counts", func() bool { return len(m.numbers()) > 3 })
	if status, out := m.action("pbs-abort"); status != 0 {
		t.Fatalf("checkpoint_abort: status %d: %s", status, out)
	}
	if s := m.status(job); s != harness.ExitAgain {
		t.Errorf("the shell ended with %d", s)
	}
	if s := m.status(m.restart()); s != 0 {
		t.Errorf("the job ended with %d", s)
	}
	m.complete()
}

// What cannot be started again by MoM is not saved for it, and runs on.
func TestPBSRefuses(t *testing.T) {
	t.Parallel()
	line := strings.Join(wrapped()[:5], " ") + " sh -c '" + fmt.Sprintf(counting, steps) + "'"
	for name, c := range map[string]struct {
		id   string
		line []string
		want string
	}{
		"a script that goes on": {"15.server", []string{"/bin/sh", "-c", line + "; echo over"}, "goes on after esky-wrap"},
		"two in one job":        {"16.server", []string{"/bin/sh", "-c", line + " & " + line + " second >&2; wait"}, "2 commands"},
		"none of esky's":        {"17.server", []string{"/bin/sh", "-c", fmt.Sprintf(counting, steps)}, "no job of esky"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMom(t, c.id)
			m.start(3, c.line...)
			if strings.HasPrefix(c.want, "2") {
				m.until("both run", func() bool {
					out, err := m.asUser(harness.Wrap(), "status", "--of", c.id)
					return err == nil && strings.Count(out, "monitor") == 2
				})
			}
			if status, out := m.action("pbs-abort"); status != 1 || !strings.Contains(out, c.want) {
				t.Errorf("status %d: %s", status, out)
			}
			if _, err := os.Lstat(m.path); err == nil {
				t.Error("there is a checkpoint")
			}
			if !m.runs() {
				t.Error("the job does not run on")
			}
		})
	}
}

func (s *stand) asUser(line ...string) (string, error) {
	cmd := s.as(s.user, []string{"PATH=/usr/bin:/bin"}, line...)
	out, err := cmd.Output()
	return string(out), err
}

// Torque's scripts are called with names, and keep a checkpoint in a directory of
// the user's.
func TestTorque(t *testing.T) {
	t.Parallel()
	const id = "18.server"
	out, err := exec.Command("id", "-u", "daemon").Output()
	if err != nil || string(out) != "1\n" {
		t.Skip("no user daemon here")
	}
	s := newStand(t, 1, "PBS_JOBID="+id, "PBS_WALLTIME=3600")
	dir := filepath.Join(s.dir, id+".CK")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1, 1); err != nil {
		t.Fatal(err)
	}
	link := func(name string) string {
		path := filepath.Join(s.root, name)
		if err := os.Symlink(s.hook, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	checkpoint, restart := link("torque-checkpoint"), link("torque-restart")
	job := s.start(5, wrapped()...)
	args := []string{fmt.Sprint(job.Process.Pid), id, "daemon", "daemon", dir, "ckpt." + id + ".1"}
	if status, out := s.call(0, nil, append([]string{checkpoint}, append(args, "0", "0")...)...); status != 0 || !s.runs() {
		t.Fatalf("qchkpt: status %d: %s", status, out)
	}
	if status, out := s.call(0, nil, append([]string{checkpoint}, append(args, "15", "0")...)...); status != 0 {
		t.Fatalf("qhold: status %d: %s", status, out)
	}
	if got := s.status(job); got != harness.ExitAgain {
		t.Errorf("the job ended with %d", got)
	}
	if got := s.status(s.begin(s.as(0, []string{"PBS_JOBID=" + id}, append([]string{restart}, args...)...))); got != 0 {
		t.Errorf("the job ended with %d", got)
	}
	s.complete()
}
