// SPDX-License-Identifier: Apache-2.0

package real

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// inShimMode are the programs that every run drives without namespaces. Static ones
// need their old process numbers, which may take minutes on a busy machine.
var inShimMode = []string{"python-numpy", "bash-pipeline", "perl", "musl"}

// TestShimMode takes programs away and brings them back without namespaces, where
// they get other process numbers and the host's clocks.
func TestShimMode(t *testing.T) {
	table := harness.NewTable(t, "shim mode", "live", "stopped", "crashed", "longest", "result")
	each(t, table, func(t *testing.T, p program, j *harness.Job) {
		if !harness.All() && !slices.Contains(inShimMode, p.name) {
			table.Set(p.name, "result", "left out")
			t.Skip("takes long: ESKY_TEST=all")
		}
		j.Flags = append(j.Flags, "--mode", "shim")
		disturb(t, p, j, harness.Rand(t), []string{"live", "stop", "crash", "stop", "live", "stop"}, table)
	})
}

// TestModes takes a job from one mode to the other and back.
func TestModes(t *testing.T) {
	shim := []string{"--mode", "shim"}
	for _, tt := range []struct {
		name  string
		first []string // flags of the first run, and so on
		then  [][]string
		takes bool // may wait for numbers
	}{
		{name: "without, with, without", first: shim, then: [][]string{nil, shim}},
		{name: "with, without", then: [][]string{shim}, takes: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.takes && !harness.All() {
				t.Skip("takes long: ESKY_TEST=all")
			}
			p := program{name: "perl", lines: 300, files: []string{"out"}}
			j := harness.NewJob(t, append(script("/usr/bin/perl", "job.pl")(t, harness.Dir(t)), fmt.Sprint(p.lines))...)
			want := undisturbed(t, p, j)
			j.Flags = tt.first
			r := j.Start()
			for i, flags := range tt.then {
				r.Until("some lines", func() bool { return strings.Count(j.Read("stdout"), "\n") > 60*(i+1) })
				j.Checkpoint("--stop")
				r.WaitFor(harness.ExitAgain)
				j.Flags = flags
				r = j.Start()
				r.Until("it goes on or cannot", func() bool { return strings.Contains(r.Stderr(), "resumed job") || r.Ended() })
				if strings.Contains(r.Stderr(), "process number") { // the numbers of a namespace are low: refused, and nothing lost
					r.WaitFor(harness.ExitHost)
					j.Flags = nil
					r = j.Start()
				}
			}
			r.WaitFor(0)
			compare(t, j, want)
		})
	}
}

// squat starts a process with a number.
func squat(t *testing.T, number int) *exec.Cmd {
	t.Helper()
	for range 100 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(fmt.Sprint(number-1)), 0); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if cmd.Process.Pid == number {
			t.Cleanup(func() { leave(cmd) })
			return cmd
		}
		leave(cmd)
	}
	t.Fatalf("no process gets the number %d", number)
	return nil
}

func leave(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestNumberTaken resumes a static program whose process number somebody else has:
// for a moment, which is waited for; and for long, which is refused at once.
func TestNumberTaken(t *testing.T) {
	if !harness.All() {
		t.Skip("takes long: ESKY_TEST=all")
	}
	if os.Getuid() != 0 {
		t.Skip("only root can take a number: ns_last_pid")
	}
	p := program{name: "c-static", lines: 300, files: []string{"out"}}
	j := harness.NewJob(t, append(c("gcc", "compute.c", "-static")(t, harness.Dir(t)), fmt.Sprint(p.lines))...)
	want := undisturbed(t, p, j)
	j.Flags = []string{"--mode", "shim"}
	r := j.Start()
	lines := func(n int) func() bool { return func() bool { return strings.Count(j.Read("stdout"), "\n") > n } }
	r.Until("some lines", lines(50))
	if !strings.Contains(r.Stderr(), "is static: without namespaces") {
		t.Errorf("not told at the start: %s", r.Stderr())
	}
	pid := harness.Tree(r.Pid())[2].Pid // below the monitor and the init
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	other := squat(t, pid)
	r = j.Start()
	time.Sleep(2 * time.Second)
	if strings.Contains(r.Stderr(), "resumed") || r.Ended() {
		t.Fatalf("its number was not free: %s", r.Stderr())
	}
	leave(other)
	r.Until("it goes on", func() bool { return strings.Contains(r.Stderr(), "resumed job") })
	r.Until("some lines", lines(100))
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	other = squat(t, pid)
	time.Sleep(31 * time.Second) // longer than what is taken for a passing process
	r = j.Start()
	start := time.Now()
	r.WaitFor(harness.ExitHost)
	if took := time.Since(start); took > 20*time.Second || !strings.Contains(r.Stderr(), fmt.Sprintf("process number %d is in use here, by sleep", pid)) {
		t.Errorf("after %s: %s", took, r.Stderr())
	}
	leave(other)
	r = j.StartAgain()
	r.WaitFor(0)
	compare(t, j, want)
}
