// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// TestOutside: a connection that leads outside the job is left alone by a
// checkpoint after which the job runs on, and is one that was reset after a
// resume. A port that somebody has by then stops the resume, and nothing is lost.
func TestOutside(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	j := harness.NewJob(t)
	program := harness.Compile(t, j.Path("outside"), "programs/outside.c", "gcc", "-D_GNU_SOURCE")
	j.Argv = []string{program, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)}
	run := j.Start()
	peer, err := l.Accept()
	must(t, err)
	defer peer.Close()
	run.Until("the program is ready", func() bool { return j.Read("ready") != "" })
	j.Checkpoint()
	must(t, peer.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("after a checkpoint the peer reads %d bytes, %v", n, err)
	}
	j.Checkpoint("--stop")
	run.WaitFor(75)
	taken, err := net.Listen("tcp", "0.0.0.0:"+strings.TrimSpace(j.Read("ready")))
	must(t, err)
	run = j.Resume()
	run.WaitFor(69)
	if !strings.Contains(run.Stderr(), "TCP port") || !strings.Contains(run.Stderr(), "in use on this host") {
		t.Errorf("a port that is taken: %s", run.Stderr())
	}
	taken.Close()
	run = j.Resume()
	j.Write("go", "")
	run.WaitFor(0)
	const want = "ECONNRESET+ERR+HUP end+HUP end+HUP EPIPE\n"
	if got := j.Read("stdout"); got != want {
		t.Errorf("the program saw %q, want %q", got, want)
	}
}

// TestNeverAccepted: what waits in a server's queue, with data in it, is waited
// for some seconds, in which the job runs on. Then it is refused by name.
func TestNeverAccepted(t *testing.T) {
	t.Parallel()
	j := harness.NewJob(t)
	program := harness.Compile(t, j.Path("inet"), "../programs/inet.c", "gcc", "-D_GNU_SOURCE", "-I../programs", "-I../../shim", "-pthread")
	j.Argv = []string{program, "status", "never"}
	run := j.Start()
	run.Until("the program is ready", func() bool { return strings.Contains(j.Read("status"), "READY") })
	o := j.TryCheckpoint()
	for _, words := range []string{"was sent on it already", "has closed again waits to be accepted", "descriptor 3"} {
		if !strings.Contains(o.Stderr, words) {
			t.Errorf("%q is not in: %s", words, o.Stderr)
		}
	}
	if o.Status != harness.ExitHost || o.Took < 5*time.Second || run.Ended() || len(j.Generations()) != 0 {
		t.Errorf("refused after %v with %d images; the job has ended: %v. %s", o.Took, len(j.Generations()), run.Ended(), o)
	}
	j.Write("status.go", "")
	run.WaitFor(0)
	if got := strings.TrimSpace(j.Read("status.result")); got != "PASS" {
		t.Errorf("the program says %q", got)
	}
}
