// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/store"
	"github.com/esky-hpc/esky/test/harness"
)

// socket is the path of the job's control socket.
func (g *gate) socket() string {
	g.t.Helper()
	names, err := filepath.Glob(g.Path(".run/*.sock"))
	must(g.t, err)
	if len(names) != 1 {
		g.t.Fatalf("control sockets: %v", names)
	}
	return names[0]
}

// hostile is what a peer may send that knows nothing good.
func hostile() map[string][]byte {
	return map[string][]byte{
		"nothing":         nil,
		"zeros":           make([]byte, 100),
		"no line end":     []byte(`{"op":"checkpoint"`),
		"no JSON":         []byte("GET / HTTP/1.1\r\n\r\n"),
		"an unknown verb": []byte(`{"op":"format","stop":true}` + "\n"),
		"a wrong type":    []byte(`{"op":17,"stop":"yes"}` + "\n"),
		"a long line":     append([]byte(`{"op":"`), bytes.Repeat([]byte("x"), 8<<20)...),
		"deep JSON":       append(bytes.Repeat([]byte("["), 4000), '\n'),
		"many requests":   bytes.Repeat([]byte(`{"op":"status"}`+"\n"), 10000),
	}
}

// TestHostilePeer talks nonsense to the control socket, and holds connections
// open that say nothing. The monitor must keep its calm and stay within reach.
func TestHostilePeer(t *testing.T) {
	g := newGate(t, 1)
	r := g.start()
	g.Checkpoint()
	path := g.socket()
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others can reach the control socket: %v %v", info.Mode(), err)
	}
	for name, data := range hostile() {
		send(t, path, name, data)
		g.advance(r)
	}
	if o := g.Esky("checkpoint"); o.Status != 0 {
		t.Errorf("checkpoint after hostile peers: %s", o)
	}
	silent := crowd(t, path, 64)
	defer silent()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if o := g.Esky("checkpoint"); o.Status == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("out of reach behind a crowd of silent peers: %s", o)
		}
	}
	g.finish(r, g.step)
}

func send(t *testing.T, path, name string, data []byte) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(3*time.Second)))
	_, _ = c.Write(data) // it may hang up before it has read all
	answer := make([]byte, 4096)
	n, _ := c.Read(answer) // or say nothing at all
	if bytes.Contains(answer[:n], []byte("panic")) {
		t.Errorf("%s: %s", name, answer[:n])
	}
}

// crowd opens n connections that say nothing.
func crowd(t *testing.T, path string, n int) (leave func()) {
	t.Helper()
	var all []net.Conn
	for range n {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			all = append(all, c)
		}
	}
	return func() {
		for _, c := range all {
			c.Close()
		}
	}
}

// TestOtherUser lets another ordinary user ask for a checkpoint that ends the
// job, with the directory of the socket thrown open.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("to be another user needs root")
	}
	g := newGate(t, 1)
	r := g.start()
	g.Checkpoint()
	path := g.socket()
	must(t, os.Chmod(filepath.Dir(path), 0o777))
	must(t, os.Chmod(path, 0o777))
	cmd := fmt.Sprintf(`import socket
s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(%q)
s.sendall(b'{"op":"checkpoint","stop":true}\n'); 
print(s.makefile().read())`, path)
	harness.Need(t, "/usr/bin/python3", "python3")
	o := g.Command("/usr/bin/python3", "-c", cmd)
	if !strings.Contains(o.Stdout, "done") {
		t.Fatalf("the job's own user was not answered either: %s", o)
	}
	r.WaitFor(harness.ExitAgain)
	must(t, os.Chmod(filepath.Dir(path), 0o700))
	r = g.Start()
	g.Checkpoint()
	must(t, os.Chmod(filepath.Dir(path), 0o777))
	must(t, os.Chmod(g.socket(), 0o777))
	stranger := []string{"setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", "/usr/bin/python3", "-c", cmd}
	answer, _ := exec.Command(stranger[0], stranger[1:]...).CombinedOutput() // no answer is an error of Python's
	if bytes.Contains(answer, []byte("done")) {
		t.Errorf("a stranger was answered: %s", answer)
	}
	g.advance(r)
	g.finish(r, 1)
}

// TestTwoIncarnations runs the line of the job script while the job runs: the
// second must give up, and only the first ever ran and wrote.
func TestTwoIncarnations(t *testing.T) {
	t.Parallel() // the second waits a minute for the first to end
	g := newGate(t, 1)
	first := g.start()
	g.Checkpoint()
	second := g.Start()
	for !second.Ended() {
		if n := len(g.processes()); n != 1 {
			t.Fatalf("%d processes of the job at once", n)
		}
		time.Sleep(100 * time.Millisecond)
	}
	second.WaitFor(harness.ExitAgain)
	says(t, second.Stderr(), "already running")
	g.advance(first)
	g.Checkpoint()
	g.finish(first, 1)
}

// TestNewerToken is the case that no lock can prevent: another host has taken
// the job over while this one was cut off. This one must notice before it
// publishes, write nothing, and stop.
func TestNewerToken(t *testing.T) {
	g := newGate(t, 1)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	before := g.Generations()
	taken := g.takeOver()
	o := g.TryCheckpoint()
	if o.Status == 0 {
		t.Errorf("a checkpoint was published although token %s was taken elsewhere", taken)
	}
	status := r.Wait()
	says(t, r.Stderr(), "newer incarnation")
	if status == 0 || status == finished {
		t.Errorf("status %d of an incarnation that was superseded", status)
	}
	if now := g.Generations(); len(now) != len(before) {
		t.Errorf("images %v, want %v", now, before)
	}
	if n := len(g.processes()); n != 0 {
		t.Errorf("%d processes of the job still run here", n)
	}
	g.shut()
	g.finish(g.Start(), 1)
}

// takeOver takes the next token as another host would that does not see the
// lock.
func (g *gate) takeOver() string {
	g.t.Helper()
	tokens, err := filepath.Glob(filepath.Join(g.Store, g.Name, "token.*"))
	must(g.t, err)
	if len(tokens) != 1 {
		g.t.Fatalf("tokens: %v", tokens)
	}
	var n store.Token
	_, err = fmt.Sscanf(filepath.Ext(tokens[0]), ".%d", &n)
	must(g.t, err)
	next := filepath.Join(g.Store, g.Name, fmt.Sprintf("token.%d", n+1))
	write(g.t, next, nil)
	must(g.t, os.Remove(tokens[0]))
	return next
}
