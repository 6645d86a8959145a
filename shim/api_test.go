// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// builds are the ways to build a program that includes esky.h; preload says
// whether a preloaded library reaches it.
var builds = []struct {
	name    string
	cc      []string
	preload bool
}{
	{"glibc", []string{"gcc"}, true},
	{"glibc-no-pie", []string{"gcc", "-fno-pie", "-no-pie"}, true},
	{"glibc-hidden", []string{"gcc", "-fvisibility=hidden", "-O0"}, true},
	{"glibc-static", []string{"gcc", "-static"}, false},
	{"musl", []string{"musl-gcc"}, true},
	{"musl-static", []string{"musl-gcc", "-static"}, false},
}

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Getenv("ESKY_SHIM_TEST") == "init" {
		beInit(os.Args[1])
	}
	os.Exit(m.Run())
}

func install(t *testing.T) string {
	t.Helper()
	path, err := Install(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Without a monitor everything is refused at once or does nothing, with the
// library and without, and no signal goes anywhere.
func TestWithoutMonitor(t *testing.T) {
	lib := install(t)
	input := "available\ncheckpoint\ngeneration\nrelease\nhold\nrelease\ncallbacks\nfill\nfork\ncallbacks\ncheckpoint\n"
	without := "0\n-1\n0\nreleased\nheld\nreleased\n-1-1\n0\nforked\n-1-1\n-1\n"
	with := "1\n-1\n0\nreleased\nheld\nreleased\n00\n14\nforked\n00\n-1\n"
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			program := compile(t, b.cc[0], append(b.cc[1:], "testdata/api.c")...)
			for _, env := range []string{"NOTHING=", "LD_PRELOAD=" + lib} {
				want := without
				if b.preload && env != "NOTHING=" {
					want = with
				}
				cmd := exec.Command(program)
				cmd.Env = append(os.Environ(), env, "ESKY_JOB=left-over")
				cmd.Stdin = strings.NewReader(input)
				out, err := cmd.CombinedOutput()
				if err != nil || string(out) != want {
					t.Errorf("%s: %v\n got %q\nwant %q", env, err, out, want)
				}
			}
		})
	}
}

func eachPreload(t *testing.T, f func(t *testing.T, p *peer)) {
	for _, b := range builds {
		if b.preload {
			t.Run(b.name, func(t *testing.T) {
				f(t, startPeer(t, compile(t, b.cc[0], append(b.cc[1:], "testdata/api.c")...), "ESKY_JOB=test"))
			})
		}
	}
}

func TestCheckpointCall(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		for i, c := range []struct {
			what       string
			result     int32
			generation uint32
			want       string
		}{
			{"goes on", 0, 0, "0"},
			{"refused", -1, 0, "-1"},
			{"resumed", 0, 1, "1"},
			{"goes on after that", 0, 1, "0"},
			{"resumed again", 0, 2, "1"},
		} {
			p.send("checkpoint")
			s := p.request()
			if s.Request != uint32(i)+1 || s.Generation > c.generation {
				t.Errorf("%s: %+v", c.what, s)
			}
			p.write(OffGeneration, c.generation)
			p.write(OffResult, uint32(c.result))
			p.write(OffPublished, s.Request)
			p.hear(c.want)
		}
		p.say("generation", "2")
	})
}

// A program that has cleared its environment is still in its job.
func TestCheckpointCallWithoutEnvironment(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		p.say("clearenv", "0")
		p.send("checkpoint")
		p.write(OffPublished, p.request().Request)
		p.hear("0")
	})
}

func TestCallbacks(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		if s := p.state(); s.ServiceTID(p.inner) != 0 {
			t.Errorf("a service thread that nobody asked for: %+v", s)
		}
		p.say("callbacks", "00")
		for i, verdict := range []uint32{VerdictGoesOn, VerdictResumed, VerdictGoesOn} {
			p.say("trace", "trace")
			p.ask()
			time.Sleep(20 * time.Millisecond) // a verdict that is late
			p.say("hold", "held")             // the program runs on meanwhile, and clears the trace
			p.say("release", "released")
			p.write(OffVerdict, verdict)
			s := p.until("callbacks are over", func(s State) bool { return s.Phase == PhaseIdle })
			if s.Ask != uint32(i)+1 || s.Callbacks != 2 {
				t.Errorf("%+v", s)
			}
		}
		p.send("checkpoint")
		s := p.request()
		p.ask()
		p.write(OffPublished, s.Request)
		time.Sleep(20 * time.Millisecond)
		p.write(OffVerdict, VerdictGoesOn)
		p.hear("0 before:A-1 before:B-1 after:B0 after:A0")

		p.send("checkpoint")
		s = p.request()
		p.ask()
		p.write(OffGeneration, 1)
		p.write(OffVerdict, VerdictResumed)
		p.write(OffPublished, s.Request)
		p.hear("1 before:A-1 before:B-1 after:B1 after:A1")
		if s := p.until("a checkpoint in a callback was refused", func(s State) bool { return s.Phase == PhaseIdle }); s.Request != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// The thread takes no signal that is meant for the program.
func TestServiceThreadBlocksSignals(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		p.say("callbacks", "00")
		tid := p.state().ServiceTID(p.inner)
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
		for _, task := range tasks {
			status := fmt.Sprintf("/proc/%d/task/%s/status", p.pid, task.Name())
			want := "0000000000000000"
			if innermost(t, status) == tid {
				want = "fffffffe7fffffff"
				if strings.Contains(t.Name(), "musl") {
					want = "fffffffc7fffffff"
				}
				// What waits in rt_sigtimedwait(2) is not blocked meanwhile.
				want = fmt.Sprintf("%016x", mask(t, want)&^(1<<(SignalService-1)))
			}
			b, _ := os.ReadFile(status)
			if !bytes.Contains(b, []byte("\nSigBlk:\t"+want)) {
				t.Errorf("thread %s, want SigBlk %s:\n%s", task.Name(), want, b)
			}
		}
	})
}

func mask(t *testing.T, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v &^ (1<<(syscall.SIGKILL-1) | 1<<(syscall.SIGSTOP-1)) // never blocked
}

func TestHold(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		for i, c := range []string{"hold", "hold", "release", "hold", "release", "release", "release"} {
			p.say(c, map[string]string{"hold": "held", "release": "released"}[c])
			s := p.state()
			if want := []int{1, 2, 1, 2, 1, 0, 0}[i]; s.Held(p.inner) != want {
				t.Errorf("after %d: %d sections open, want %d", i, s.Held(p.inner), want)
			}
		}
	})
}

// A child of fork inherits neither the sections nor the service thread.
func TestFork(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		p.say("hold", "held")
		p.say("callbacks", "00")
		p.say("fork", "forked")
		parent, inner := p.pid, p.inner
		p.pid = children(parent)[0]
		p.inner = innermost(t, fmt.Sprintf("/proc/%d/status", p.pid))
		s := p.state()
		if s.Held(inner) != 1 || s.Held(p.inner) != 0 || s.ServiceTID(p.inner) != 0 {
			t.Errorf("child %d of %d: %+v", p.inner, inner, s)
		}
		p.say("hold", "held")
		p.say("callbacks", "00")
		if s := p.state(); s.Held(p.inner) != 1 || s.Callbacks != 2 || s.ServiceTID(p.inner) == 0 {
			t.Errorf("child %d: %+v", p.inner, s)
		}
		p.say("release", "released")
		p.ask()
		p.write(OffVerdict, VerdictGoesOn)
		p.until("over", func(s State) bool { return s.Phase == PhaseIdle })
		p.pid = parent
		if s := p.state(); s.Held(inner) != 1 || s.Ask != 0 {
			t.Errorf("the parent: %+v", s)
		}
	})
}

// A program that leaves its critical section lets a waiting tracer in, and
// goes on by itself when that never comes.
func TestReleaseYields(t *testing.T) {
	eachPreload(t, func(t *testing.T, p *peer) {
		p.write(OffWaiting, 1)
		p.say("hold", "held")
		start := time.Now()
		p.say("release", "released")
		if d := time.Since(start); d < 90*time.Millisecond || d > 2*time.Second {
			t.Errorf("waited %v for a tracer that does not come", d)
		}
		p.write(OffWaiting, 0)
		p.say("hold", "held")
		start = time.Now()
		p.say("release", "released")
		if d := time.Since(start); d > 80*time.Millisecond {
			t.Errorf("waited %v though nobody asked", d)
		}
	})
}

// Where the environment does not say that there is a job, nothing is sent.
func TestNoJob(t *testing.T) {
	p := startPeer(t, compile(t, "gcc", "testdata/api.c"))
	p.say("checkpoint", "-1")
	if s := p.state(); s.Request != 0 {
		t.Errorf("%+v", s)
	}
}
