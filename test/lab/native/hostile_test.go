// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stranger is a user id that is nobody's, and no other test's.
func stranger(n int) int { return 1_950_000_000 + os.Getpid()%100_000*10 + n }

// impostor listens where monitors of a user do, and answers every request with
// the text.
func impostor(t *testing.T, uid int, answer string) {
	t.Helper()
	dir := "/tmp/esky-" + strconv.Itoa(uid)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "x.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, path := range []string{dir, filepath.Join(dir, "x.sock")} {
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = c.Write([]byte(answer)) }() // and never hangs up
		}
	}()
}

// A monitor that is none tells root's process whatever it likes.
func TestImpostor(t *testing.T) {
	t.Parallel()
	secret := exec.Command("env", "-i", "SECRET=of-root", "sleep", "60")
	if os.Geteuid() != 0 {
		t.Skip("a scheduler's daemon is root")
	}
	if err := secret.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secret.Process.Kill(); _ = secret.Wait() })
	state := func(pid int) string {
		text, _ := json.Marshal(map[string]any{"done": true, "state": map[string]any{
			"job": "j\n\x1b[2J", "store": "/etc", "job_id": "30.server", "monitor_pid": pid}})
		return string(text) + "\n"
	}
	for i, c := range []struct{ name, answer string }{
		{"root's process", state(secret.Process.Pid)},
		{"init", state(1)},
		{"no process", state(0)},
		{"all processes", state(-1)},
		{"no JSON", strings.Repeat("x", 1<<21) + "\n"},
		{"an ocean", strings.Repeat(`{"progress":{}}`+"\n", 1<<17)},
		{"silence", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			uid := stranger(i)
			impostor(t, uid, c.answer)
			m := newMom(t, "30.server")
			u := strconv.Itoa(uid)
			begin := time.Now()
			status, out := m.call(0, m.env(), m.hook, "pbs-abort", m.id, u, u, m.path)
			if status != 1 || strings.Contains(out, "of-root") || strings.ContainsAny(out, "\x1b") {
				t.Errorf("status %d: %q", status, out)
			}
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if _, err := os.Lstat(m.path); err == nil {
				t.Error("there is a checkpoint")
			}
			if syscall.Kill(secret.Process.Pid, 0) != nil {
				t.Error("root's process is gone")
			}
		})
	}
}

// What MoM hands over is checked, and what lies at %path is not followed.
func TestPBSArguments(t *testing.T) {
	t.Parallel()
	m := newMom(t, "31.server")
	for _, args := range [][]string{
		{}, {"31.server"}, {"31.server", "0", "0", m.path}, {"31.server", "1000", "0", m.path}, {"--stop", "1000", "1000", m.path},
		{"../x", "1000", "1000", m.path}, {"31.server", "-1", "1000", m.path}, {"31.server", "1000", "1000", m.path, "more"},
		{"", "1000", "1000", m.path}, {"31 32", "1000", "1000", m.path},
	} {
		for _, verb := range []string{"pbs-checkpoint", "pbs-abort", "pbs-restart"} {
			if status, out := m.call(0, m.env(), append([]string{m.hook, verb}, args...)...); status != 1 || out == "" {
				t.Errorf("%s %q: status %d: %s", verb, args, status, out)
			}
		}
	}
}

func TestPBSPath(t *testing.T) {
	t.Parallel()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id   string
		make func(m *mom) error
		fine bool
	}{
		"a link":             {"41.server", func(m *mom) error { return os.Symlink(victim, m.path) }, true},
		"a FIFO":             {"42.server", func(m *mom) error { return syscall.Mkfifo(m.path, 0o600) }, true},
		"a user's directory": {"43.server", func(m *mom) error { return os.Chown(filepath.Dir(m.path), 1000, 1000) }, false},
		"one for everybody":  {"44.server", func(m *mom) error { return os.Chmod(filepath.Dir(m.path), 0o777) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMom(t, c.id)
			m.start(3, wrapped()...)
			if err := c.make(m); err != nil {
				t.Fatal(err)
			}
			if status, out := m.call(0, m.env(), m.hook, "pbs-restart", m.id, "1000", "1000", m.path); status != 1 {
				t.Errorf("a restart from it: status %d: %s", status, out)
			}
			if status, out := m.action("pbs-checkpoint"); (status == 0) != c.fine {
				t.Errorf("status %d: %s", status, out)
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
				t.Errorf("the file that the link leads to: %q, %v", text, err)
			}
			if !m.runs() {
				t.Error("the job does not run on")
			}
		})
	}
}

// A record that a user has swollen or garbled starts nothing, as nobody.
func TestHostileRecord(t *testing.T) {
	t.Parallel()
	m := newMom(t, "50.server")
	for name, text := range map[string]string{
		"empty": "", "no JSON": "{", "huge": strings.Repeat(" ", 1<<21), "nothing to execute": `{"Exe":"/nowhere","Dir":"/"}`,
		"a directory that is not there": `{"Exe":"/bin/true","Argv":["true"],"Dir":"/nowhere"}`,
	} {
		if err := os.WriteFile(m.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, out := m.call(0, m.env(), m.hook, "pbs-restart", m.id, "1000", "1000", m.path); status != 1 || out == "" {
			t.Errorf("%s: status %d: %s", name, status, out)
		}
	}
	// One that executes something else executes it as the user, which they can.
	record := `{"Exe":"/usr/bin/id","Argv":["id"],"Dir":"/"}`
	if err := os.WriteFile(m.path, []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, out := m.call(0, m.env(), m.hook, "pbs-restart", m.id, "1000", "1000", m.path); !strings.HasPrefix(out, "uid=1000") || strings.Contains(out, "root") {
		t.Errorf("%s", out)
	}
}
