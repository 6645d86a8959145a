// SPDX-License-Identifier: Apache-2.0

package real

import (
	"fmt"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// TestTmux takes away a tmux server, its client, the terminal of script(1) that
// the client is on, and the shell in its window, with a line half typed and a
// program stopped in the background; and types on afterwards, from outside.
func TestTmux(t *testing.T) {
	harness.Programs(t, []string{"tmux", "script"}, []string{"tmux", "bsdutils"})
	t.Parallel()
	j := harness.NewJob(t, "sh", "-c",
		`sleep 1000 | { script -qfc "tmux -L t -f /dev/null new -x 80 -y 24 'bash --norc'" screen; echo "script $?" >ended; kill 0; } >/dev/null`)
	j.Env = []string{"TERM=vt100", "TMUX_TMPDIR=" + j.Dir, "LC_ALL=C.UTF-8"}
	r := j.Start()
	socket := j.Path("tmux-1000/t")
	tmux := func(args ...string) harness.Outcome {
		return j.Command(append([]string{"env", "TERM=vt100", "tmux", "-S", socket}, args...)...)
	}
	send := func(keys ...string) {
		t.Helper()
		if o := tmux(append([]string{"send-keys"}, keys...)...); o.Status != 0 {
			t.Fatalf("send-keys %q: %s", keys, o)
		}
	}
	shows := func(text string) {
		t.Helper()
		r.Until(fmt.Sprintf("the window shows %q", text), func() bool { return strings.Contains(tmux("capture-pane", "-p").Stdout, text) })
	}
	r.Until("tmux runs", func() bool { return tmux("list-clients").Stdout != "" })
	send("x=41; cat", "Enter")
	send("C-z")
	shows("Stopped")
	for n, flags := range [][]string{nil, {"--stop"}, {"--stop"}} {
		typed := fmt.Sprintf("echo round-%d-$((x+%d))", n, n)
		send(typed)
		shows(typed)
		j.Checkpoint(flags...)
		if len(flags) > 0 {
			r.WaitFor(harness.ExitAgain)
			r = j.Start()
			r.Until("tmux answers", func() bool { return tmux("list-clients").Status == 0 })
		}
		send("Enter")
		shows(fmt.Sprintf("\nround-%d-%d", n, 41+n))
	}
	if got := tmux("list-clients").Stdout; !strings.Contains(got, "80x24") {
		t.Errorf("clients: %q", got)
	}
	send("fg", "Enter")
	shows("fg\ncat") // what is typed before belongs to the shell
	send("to the cat", "Enter")
	shows("to the cat\nto the cat")
	send("C-d")
	send("tty; exit", "Enter")
	r.Until("the end", func() bool { return j.Read("ended") != "" })
	if got := j.Read("ended"); got != "script 0\n" {
		t.Error(got)
	}
	r.Wait()
}
