// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
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

// The tests of this file run the real program as root, for a user who does what
// they can to make it do something else.

// longest is what a hook may take in all: its limit, and two seconds to give up
// and to log; a loaded machine is given some more.
const longest = 25 * time.Second

// hook is the program, built once.
func hook(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	path := filepath.Join(t.TempDir(), "esky-hook")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// nobodys gives user ids that nobody has, and no other test.
var nobodys = func() func() int {
	next := 1_900_000_000 + os.Getpid()%100_000*100
	return func() int { next++; return next }
}()

// place is where the monitors of a user have their sockets.
func place(t *testing.T, uid int) string {
	path := "/tmp/esky-" + strconv.Itoa(uid)
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}

// epilogFor runs the program as Slurm's epilog does. What it said is returned.
func epilogFor(t *testing.T, hook string, uid int, env ...string) (string, error) {
	t.Helper()
	return hookFor(t, hook, "epilog", uid, env...)
}

func hookFor(t *testing.T, hook, verb string, uid int, env ...string) (string, error) {
	t.Helper()
	u := strconv.Itoa(uid)
	cmd := exec.Command(hook, strings.Fields(verb)...)
	cmd.Env = append([]string{"SLURM_JOB_ID=2147483640", "SLURM_JOB_UID=" + u, "SLURM_JOB_GID=" + u}, env...)
	cmd.WaitDelay = time.Second
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if took := time.Since(begin); took > longest {
		t.Errorf("took %v", took)
	}
	return string(out), err
}

func TestHostilePlaces(t *testing.T) {
	hook := hook(t)
	victim := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(victim, "dead.sock"))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := os.Chmod(victim, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(path string, uid int) error
		says string // empty: nothing, and all is well
	}{
		"nothing":              {func(string, int) error { return nil }, ""},
		"a link out":           {func(p string, _ int) error { return os.Symlink(victim, p) }, "not a directory"},
		"a link to itself":     {func(p string, _ int) error { return os.Symlink(p, p) }, "not a directory"},
		"a FIFO":               {func(p string, _ int) error { return syscall.Mkfifo(p, 0o666) }, "not a directory"},
		"a file":               {func(p string, _ int) error { return os.WriteFile(p, nil, 0o666) }, "not a directory"},
		"root's directory":     {func(p string, _ int) error { return os.Mkdir(p, 0o755) }, "left alone"},
		"one that all write":   {owned(0o777), "left alone"},
		"one that none enters": {owned(0), "permission denied"},
		"links to sockets": {func(p string, uid int) error {
			return errors.Join(owned(0o700)(p, uid), os.Symlink(filepath.Join(victim, "dead.sock"), p+"/x.sock"),
				os.Symlink(victim, p+"/dir"))
		}, ""},
		"too many names": {func(p string, uid int) error {
			err := owned(0o700)(p, uid)
			for i := range mostNames + 1 {
				err = errors.Join(err, os.Symlink("x", fmt.Sprint(p, "/", i)))
			}
			return err
		}, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			uid := nobodys()
			if err := c.make(place(t, uid), uid); err != nil {
				t.Fatal(err)
			}
			out, err := epilogFor(t, hook, uid)
			if (err == nil) != (c.says == "") || !strings.Contains(out, c.says) || c.says == "" && out != "" {
				t.Errorf("%v, %q", err, out)
			}
			if _, err := os.Lstat(filepath.Join(victim, "dead.sock")); err != nil {
				t.Error("it removed another's socket")
			}
		})
	}
}

func owned(mode os.FileMode) func(string, int) error {
	return func(path string, uid int) error {
		return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode), os.Chown(path, uid, uid))
	}
}

// Nothing that root's environment has gets to the user's process, nor does junk
// in it matter.
func TestEnvironmentFullOfJunk(t *testing.T) {
	hook := hook(t)
	big := strings.Repeat("x", 100_000)
	junk := []string{
		"LD_PRELOAD=/tmp/evil.so", "GODEBUG=netdns=go", "GOTRACEBACK=crash", "PATH=/tmp", "=", "==", "A", "BIG=" + big,
		"SLURM_JOB_ID=\x1b[2J\n1", "SLURM_JOB_ID=2147483640", "IFS=/", "BASH_ENV=/tmp/x", "TMPDIR=/nowhere",
	}
	if out, err := epilogFor(t, hook, nobodys(), junk...); err != nil || out != "" {
		t.Errorf("%v, %q", err, out)
	}
	out, err := epilogFor(t, hook, nobodys(), "SLURM_JOB_UID=0")
	if err == nil || !strings.Contains(out, "SLURM_JOB_UID") {
		t.Errorf("root's job: %v, %q", err, out)
	}
	out, err = epilogFor(t, hook, nobodys(), "SLURM_JOB_ID="+big+"\n\x1b")
	if err == nil || len(out) > 400 || strings.Count(out, "\n") != 1 || strings.Contains(out, "\x1b") {
		t.Errorf("a strange id: %v, %d bytes: %.200q", err, len(out), out)
	}
}

// A user's process that is stopped, over and over, is waited for no longer than
// any other.
func TestStoppedByItsUser(t *testing.T) {
	t.Parallel()
	hook := hook(t)
	uid := nobodys()
	sh := exec.Command("sh", "-c", "trap '' TERM; while :; do kill -STOP -1; done")
	sh.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, Setsid: true}
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sh.Process.Kill(); _ = sh.Wait() }()
	if out, err := epilogFor(t, hook, uid); err != nil && !strings.Contains(out, "gave up after") {
		t.Errorf("%v, %q", err, out)
	}
}

// The directory of the user's sockets is a FUSE file system that takes requests
// and answers none. A process that waits for it cannot even be killed
// (fs/fuse/dev.c, request_wait_answer); the hook ends all the same, and Slurm's
// script around it with status 0.
func TestFileSystemThatHangs(t *testing.T) {
	t.Parallel()
	hook := hook(t)
	uid := nobodys()
	path := place(t, uid)
	if err := owned(0o700)(path, uid); err != nil {
		t.Fatal(err)
	}
	asked := hangingMount(t, path, uid)
	site, environ := make(chan error, 1), make(chan string, 1)
	begin := time.Now()
	go func() { site <- siteEpilog(t, hook, uid).Run() }()
	go func() { environ <- environOf(uid) }()
	out, err := epilogFor(t, hook, uid, "SLURM_JOB_USER=x", "LD_PRELOAD=", "OF_ROOT=yes")
	u := strconv.Itoa(uid)
	if got, want := <-environ, "PATH=/usr/bin:/bin:/usr/sbin:/sbin\x00SLURM_JOB_GID="+u+"\x00SLURM_JOB_ID=2147483640\x00SLURM_JOB_UID="+u+"\x00"; got != want {
		t.Errorf("the user's process has the environment %q", got)
	}
	if err == nil || !strings.Contains(out, "gave up after 8s") || !strings.Contains(out, "cannot be killed") {
		t.Errorf("%v, %q", err, out)
	}
	if asked() == 0 {
		t.Error("nobody asked the file system for anything")
	}
	if err := <-site; err != nil {
		t.Errorf("the site's epilog: %v", err)
	}
	if took := time.Since(begin); took > longest {
		t.Errorf("the site's epilog took %v", took)
	}
}

// environOf waits for a process of a user's and returns its environment.
func environOf(uid int) string {
	for end := time.Now().Add(longest); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		all, _ := filepath.Glob("/proc/[0-9]*")
		for _, proc := range all {
			st, err := os.Stat(proc)
			if err != nil || int(st.Sys().(*syscall.Stat_t).Uid) != uid {
				continue
			}
			// Before its execve(2) it has nothing of its own yet.
			if text, err := os.ReadFile(proc + "/environ"); err == nil && strings.HasPrefix(string(text), "PATH=") {
				return string(text)
			}
		}
	}
	return "none"
}

// siteEpilog is the shipped script, calling that program.
func siteEpilog(t *testing.T, hook string, uid int) *exec.Cmd {
	text, err := os.ReadFile("../../scheduler-hooks/slurm/epilog")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh")
	cmd.Stdin = bytes.NewReader(bytes.Replace(text, []byte("\nhook=\n"), []byte("\nhook="+hook+"\n"), 1))
	u := strconv.Itoa(uid)
	cmd.Env = []string{"SLURM_JOB_ID=2147483640", "SLURM_JOB_UID=" + u, "SLURM_JOB_GID=" + u}
	return cmd
}

// logging runs the program as Slurm would, in a mount namespace of its own in
// which /dev has a log and what it needs besides.
const logging = `
mount --make-rprivate / &&
touch "$DEV/null" && mount --bind /dev/null "$DEV/null" && mount --rbind "$DEV" /dev &&
SLURM_JOB_ID=7 SLURM_JOB_UID=0 exec "$HOOK" epilog`

func TestLog(t *testing.T) {
	hook := hook(t)
	dev := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dev, "log")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	epilog := func() *exec.Cmd {
		cmd := exec.Command("unshare", "-m", "sh", "-c", logging)
		cmd.Env = append(os.Environ(), "DEV="+dev, "HOOK="+hook)
		return cmd
	}
	if out, err := epilog().CombinedOutput(); err == nil || !strings.Contains(string(out), "SLURM_JOB_UID") {
		t.Skipf("no mount namespace here: %v, %s", err, out)
	}
	line := make([]byte, 4096)
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Read(line)
	if text := string(line[:n]); err != nil || !strings.HasPrefix(text, "<28>") ||
		!strings.Contains(text, "esky-hook[") || !strings.Contains(text, `SLURM_JOB_UID is "0"`) {
		t.Errorf("the log has %q, %v", text, err)
	}
	// A log daemon that takes nothing any more.
	full, err := net.Dial("unixgram", filepath.Join(dev, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err = nil; err == nil; {
		_ = full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a socket has deadlines
		_, err = full.Write([]byte("x"))
	}
	begin := time.Now()
	if err := epilog().Run(); err == nil {
		t.Error("root's job was accepted")
	}
	if took := time.Since(begin); took > longest {
		t.Errorf("with a log that hangs: took %v", took)
	}
}
