// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
)

// serveEcho listens with an answer that does not need a job.
func serveEcho(t *testing.T) string {
	t.Helper()
	noLeaks(t)
	dir, err := os.MkdirTemp("/tmp", "esky-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s.sock")
	s, err := serve(path, func(_ context.Context, r Request, progress func(engine.Progress)) Reply {
		progress(engine.Progress{Phase: "half", Done: 1, Total: 2})
		return Reply{State: &State{State: r.Op}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return path
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(4 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSocketAnswers(t *testing.T) {
	path := serveEcho(t)
	var seen []string
	r, err := Call(context.Background(), path, Request{Op: "status"}, func(p engine.Progress) { seen = append(seen, p.Phase) })
	if err != nil || r.State == nil || r.State.State != "status" || strings.Join(seen, ",") != "half" {
		t.Errorf("reply %+v, progress %v, error %v", r, seen, err)
	}
}

// A checkpoint must not wait for a peer that asks for progress and never reads.
func TestProgressDoesNotWaitForPeers(t *testing.T) {
	noLeaks(t)
	dir, err := os.MkdirTemp("/tmp", "esky-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	worked := make(chan time.Duration, 1)
	s, err := serve(dir+"/s.sock", func(_ context.Context, _ Request, progress func(engine.Progress)) Reply {
		begin := time.Now()
		for range 20000 { // far more than a socket buffers
			progress(engine.Progress{Phase: strings.Repeat("x", 100)})
		}
		worked <- time.Since(begin)
		return Reply{}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	c := dial(t, dir+"/s.sock")
	if err := json.NewEncoder(c).Encode(Request{Op: "checkpoint", Progress: true}); err != nil {
		t.Fatal(err)
	}
	if took := <-worked; took > peerPatience/2 {
		t.Errorf("the work took %v because nobody read", took)
	}
	c.Close()
}

func TestSocketSurvivesHostilePeers(t *testing.T) {
	path := serveEcho(t)
	for name, say := range map[string][]byte{
		"nothing":      nil,
		"not JSON":     []byte("hello\n"),
		"wrong types":  []byte(`{"op":7,"stop":"yes"}` + "\n"),
		"null":         []byte("null\n"),
		"no newline":   []byte(`{"op":"status"}`),
		"an ocean":     bytes.Repeat([]byte("a"), 1<<20),
		"deep nesting": append(bytes.Repeat([]byte("["), 4000), '\n'),
		"zero bytes":   make([]byte, 8192),
	} {
		c := dial(t, path)
		_, _ = c.Write(say) // refused halfway is fine
		_ = c.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(c)
		if name == "null" { // a request without an operation: the job's business to refuse
			continue
		}
		if strings.Contains(string(answer), `"state"`) {
			t.Errorf("%s: answered %q", name, answer)
		}
		if _, err := Call(context.Background(), path, Request{Op: "status"}, nil); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// Peers that connect and say nothing must not keep others out for longer than
// the patience with them.
func TestSocketSurvivesSilentPeers(t *testing.T) {
	path := serveEcho(t)
	for range 3 * mostPeers {
		dial(t, path)
	}
	begin := time.Now()
	for time.Since(begin) < 2*peerPatience {
		if _, err := Call(context.Background(), path, Request{Op: "status"}, nil); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("no answer within %v", 2*peerPatience)
}

func TestSocketRefusesOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	path := serveEcho(t)
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	// The test binary itself, as another user, is the peer: TestMain.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ESKY_TEST_PEER="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "connected, answer \"\"") {
		t.Errorf("a stranger got %q, %v", out, err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("ESKY_TEST_TWIN") != "" { // twin
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	if path := os.Getenv("ESKY_TEST_PEER"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		_ = json.NewEncoder(c).Encode(Request{Op: "status"})
		answer, _ := io.ReadAll(c)
		os.Stdout.WriteString("connected, answer \"" + string(answer) + "\"\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestRuntimeDirIsOursAlone(t *testing.T) {
	base := t.TempDir()
	for name, tc := range map[string]struct {
		make func(path string) error
		want string
	}{
		"missing":      {func(string) error { return nil }, ""},
		"private":      {func(p string) error { return os.Mkdir(p, 0o700) }, ""},
		"open":         {func(p string) error { return os.Mkdir(p, 0o755) }, "is open to others"},
		"a file":       {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "is not a directory"},
		"a link":       {func(p string) error { return os.Symlink(base, p) }, "is not a directory"},
		"another's":    {func(p string) error { return foreign(t, p) }, "belongs to uid"},
		"far too long": {nil, "too long for a socket"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
			if tc.make == nil {
				path = filepath.Join(base, strings.Repeat("x", 100))
			} else if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			t.Setenv("ESKY_RUNTIME_DIR", path)
			_, err := meet("/store", "job")
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func foreign(t *testing.T, path string) error {
	if os.Getuid() != 0 {
		t.Skip("needs root to make another user's directory")
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chown(path, 4242, 4242)
}

func TestStatusAndUnknownRequests(t *testing.T) {
	r := newRig(t)
	j := r.start()
	reply, err := r.call(Request{Op: "status"})
	if err != nil || reply.State.State != "running" || reply.State.Job != "fake-7" || reply.State.MonitorPid != os.Getpid() {
		t.Errorf("status %+v, %v", reply.State, err)
	}
	if _, err := r.call(Request{Op: "explode"}); Code(err) != ExitUsage {
		t.Errorf("an unknown request: %v", err)
	}
	j.exit(0)
	r.want(0, "")
}

func TestCheckpointStop(t *testing.T) {
	r := newRig(t)
	j := r.start()
	reply, err := r.call(Request{Op: "checkpoint", Stop: true})
	if err != nil || reply.Saved == nil || !reply.Saved.Stopped || reply.Saved.Generation != 1 {
		t.Errorf("reply %+v, %v", reply, err)
	}
	r.want(99, "")
	if !j.killed {
		t.Error("the job was not ended")
	}
}

func TestCheckpointOfAJobThatEnds(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error { return &engine.JobEndedError{} }
	if _, err := r.call(Request{Op: "checkpoint"}); Code(err) != ExitNotFound || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("error %v", err)
	}
	j.exit(0)
	r.want(0, "")
}

func TestCheckpointRefusedOverTheSocket(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error {
		return &engine.RefusedError{Reasons: []string{"pid 3: io_uring"}}
	}
	_, err := r.call(Request{Op: "checkpoint", Stop: true})
	if Code(err) != ExitCannot || !strings.Contains(err.Error(), "io_uring") {
		t.Errorf("error %v", err)
	}
	j.exit(0)
	r.want(0, "")
}

func TestCheckpointAskedForWhileResuming(t *testing.T) {
	r := newRig(t)
	r.start()
	r.signals <- syscall.SIGTERM
	r.want(99, "")
	answer := make(chan error, 1)
	r.again()
	r.engine.onResume = func(context.Context, engine.ResumeOptions) error {
		go func() {
			_, err := r.call(Request{Op: "checkpoint"})
			answer <- err
		}()
		for range 400 { // until the monitor has it
			if reply, err := r.call(Request{Op: "status"}); err != nil || reply.State.State != "starting" {
				t.Errorf("status while resuming: %+v, %v", reply.State, err)
			} else if reply.State.Waiting == 1 {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Error("the request never came")
		return nil
	}
	j := r.start()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	j.exit(0)
	r.want(0, "")
}
