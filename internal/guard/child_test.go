// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also what Child starts: the first argument says as what.
var asChild = map[string]func() error{
	"status": func() error { return show("/proc/thread-self/status") },
	"become": func() error {
		if err := (User{UID: 5001, GID: 5002, Groups: []int{5003}}).Become(); err != nil {
			return err
		}
		return show("/proc/thread-self/status")
	},
	"check":   func() error { return (User{UID: 5001, GID: 5002}).Check() },
	"environ": func() error { return show("/proc/self/environ") },
	"fail":    func() error { return fmt.Errorf("it is so") },
	"hang":    func() error { fmt.Println("before"); time.Sleep(time.Hour); return nil },
	"deaf": func() error {
		cmd := exec.Command("sh", "-c", "trap '' TERM INT HUP; sleep 1000 & sleep 1000")
		cmd.Stdout = os.Stdout
		return cmd.Run()
	},
	"leave-behind": func() error {
		cmd := exec.Command("sleep", "1000")
		cmd.Stdout, cmd.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setsid: true, Pdeathsig: 0}
		if err := cmd.Start(); err != nil {
			return err
		}
		fmt.Println(cmd.Process.Pid)
		return nil
	},
	"swell": func() error {
		line := strings.Repeat("x", 4095) + "\n"
		for range 1 << 14 {
			fmt.Print(line)
		}
		return nil
	},
}

func show(path string) error {
	text, err := os.ReadFile(path)
	os.Stdout.Write(text)
	return err
}

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || asChild[os.Args[1]] == nil {
		os.Exit(m.Run())
	}
	if err := asChild[os.Args[1]](); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
}

// stranger is somebody else where we are root, and ourselves where not.
func stranger() User {
	if os.Geteuid() != 0 {
		return User{UID: os.Getuid(), GID: os.Getgid()}
	}
	return User{UID: 5001, GID: 5002, Groups: []int{5003}}
}

func TestUserGivesUpEverything(t *testing.T) {
	needRoot(t)
	want := []string{
		"Uid:\t5001\t5001\t5001\t5001\n", "Gid:\t5002\t5002\t5002\t5002\n", "Groups:\t5002 5003 \n",
		"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapAmb:\t0000000000000000\n",
	}
	started, err := Child{User: stranger(), Args: []string{"status"}, Limit: 10 * time.Second}.Run()
	if err != nil {
		t.Fatal(err)
	}
	became, err := exec.Command("/proc/self/exe", "become").Output()
	if err != nil {
		t.Fatalf("%v: %s", err, became)
	}
	for how, status := range map[string]string{"started": started, "became": string(became)} {
		for _, w := range want {
			if !strings.Contains(status, w) {
				t.Errorf("%s: no %q in\n%s", how, w, status)
			}
		}
	}
}

// A process that has kept something of root's is not taken for the user.
func TestCheck(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, as := range map[string][]string{
		"root":                   nil,
		"a real user id only":    {"setpriv", "--ruid", "5001"},
		"an ambient capability":  {"setpriv", "--reuid", "5001", "--inh-caps", "+chown", "--ambient-caps", "+chown"},
		"an effective user only": {"setpriv", "--euid", "5001"},
	} {
		line := append(as, self, "check")
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(out), "process") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

func TestChildHasOnlyTheEnvironmentItIsGiven(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/tmp/evil.so")
	t.Setenv("GODEBUG", "x")
	out, err := Child{User: stranger(), Args: []string{"environ"}, Env: []string{"A=b"}, Limit: 10 * time.Second}.Run()
	if want := path + "\x00A=b\x00"; err != nil || out != want {
		t.Errorf("%q, %v", out, err)
	}
}

func TestChildThatFails(t *testing.T) {
	out, err := Child{User: stranger(), Args: []string{"fail"}, Limit: 10 * time.Second}.Run()
	if s, ok := err.(*Status); !ok || s.Code != 1 || out != "it is so\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestChildIsBounded(t *testing.T) {
	for name, want := range map[string]string{"hang": "before\n", "deaf": ""} {
		begin := time.Now()
		out, err := Child{User: stranger(), Args: []string{name}, Limit: time.Second}.Run()
		if err == nil || !strings.Contains(err.Error(), "gave up after 1s") || out != want {
			t.Errorf("%s: %q, %v", name, out, err)
		}
		if d := time.Since(begin); d > 10*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
	begin := time.Now()
	if out, err := (Child{User: stranger(), Args: []string{"swell"}, Limit: time.Minute}).Run(); err != nil || len(out) != mostHeard {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	out, err := Child{User: stranger(), Args: []string{"leave-behind"}, Limit: time.Minute}.Run()
	if err != nil {
		t.Errorf("a grandchild holds the output: %q, %v", out, err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("took %v", d)
	}
	var pid int
	if _, err := fmt.Sscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		" two\nlines\n":      "two;lines",
		"\x1b[2J\r\x00é\xff": "?[2J??é?",
		"a\u202eb\u2028c":    "a?b?c",
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	if got := Printable(strings.Repeat("x", 1<<20)); len(got) > mostLogged+10 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestNumber(t *testing.T) {
	for _, bad := range []string{"", "0", "-1", "x", "1x", " 1", "1\n", "4294967296", "4294967295", strings.Repeat("1", 1<<16)} {
		if n, err := Number("it", bad); err == nil || len(err.Error()) > 200 {
			t.Errorf("%.20q: %d, %v", bad, n, err)
		}
	}
	if n, err := Number("it", "42"); n != 42 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A turn lasts until the child that has it is gone, even if whoever took it is.
func TestTurn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("turns are root's to give")
	}
	user := User{UID: 1_899_000_000 + os.Getpid(), GID: 1}
	take := func(limit time.Duration) (*Turn, error) { return TakeTurn(user, limit) }
	turn, err := take(0)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(turn.file.Name())
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{turn.file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	turn.Close()
	if _, err := take(200 * time.Millisecond); err == nil {
		t.Fatal("two have the turn")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if turn, err = take(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	// Nobody waits behind one that hangs, and its mark goes with its turn.
	turn.hangs(os.Getpid())
	begin := time.Now()
	if _, err := take(time.Hour); err == nil || time.Since(begin) > time.Minute {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	turn.Close()
	for range 2 {
		if turn, err = take(0); err != nil {
			t.Fatal(err)
		}
		turn.Close()
	}
}
