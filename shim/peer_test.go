// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// beInit is pid 1 of a job's namespace: it runs the program and says on fd 3
// when a process asks for a checkpoint.
func beInit(program string) {
	requests := make(chan os.Signal, 8)
	signal.Notify(requests, syscall.Signal(SignalRequest))
	tell := os.NewFile(3, "requests")
	go func() {
		for range requests {
			fmt.Fprintln(tell, "request")
		}
	}()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), os.Getenv("ESKY_SHIM_PRELOAD"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A peer drives the api program in a pid namespace, as monitor, tracer and
// restore do.
type peer struct {
	t        *testing.T
	init     *exec.Cmd
	stdin    *os.File
	stdout   *bufio.Reader
	requests *bufio.Reader
	base     uint64 // of the library in the process
	pid      int    // as seen from here
	inner    int    // as the process sees it
}

func startPeer(t *testing.T, program string, env ...string) *peer {
	t.Helper()
	lib := install(t)
	p := &peer{t: t, init: exec.Command("/proc/self/exe", program)}
	var ends [3]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			p.init.Stdin, p.stdin, ends[i] = r, w, r
		case 1:
			p.init.Stdout, p.init.Stderr, p.stdout, ends[i] = w, w, bufio.NewReader(r), w
		case 2:
			p.init.ExtraFiles, p.requests, ends[i] = []*os.File{w}, bufio.NewReader(r), w
		}
	}
	p.init.Env = append(append(os.Environ(), "ESKY_SHIM_TEST=init", "ESKY_SHIM_PRELOAD=LD_PRELOAD="+lib), env...)
	p.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := p.init.Start(); err != nil {
		t.Skipf("no user and pid namespaces here: %v", err)
	}
	for _, e := range ends {
		e.Close()
	}
	t.Cleanup(func() {
		p.stdin.Close()
		if err := p.init.Wait(); err != nil {
			t.Errorf("the program: %v", err)
		}
	})
	p.say("generation", "0") // it runs
	p.find(p.init.Process.Pid, lib)
	return p
}

// find looks for the process below pid that has the library.
func (p *peer) find(pid int, lib string) {
	p.t.Helper()
	var maps []byte
	for _, c := range children(pid) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", c)); err == nil {
			p.pid, maps = c, b
		}
	}
	p.inner = innermost(p.t, fmt.Sprintf("/proc/%d/status", p.pid))
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, lib) {
			start, _, _ := strings.Cut(line, "-")
			p.base, _ = strconv.ParseUint(start, 16, 64)
			return
		}
	}
	p.t.Fatalf("pid %d has no %s:\n%s", p.pid, lib, maps)
}

func children(pid int) []int {
	var all []int
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, f := range strings.Fields(string(b)) {
			c, _ := strconv.Atoi(f)
			all = append(all, c)
		}
	}
	return all
}

func innermost(t *testing.T, status string) int {
	t.Helper()
	b, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	f := strings.Fields(line)
	n, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *peer) send(command string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, command); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) hear(want string) {
	p.t.Helper()
	got, err := p.stdout.ReadString('\n')
	if err != nil || got != want+"\n" {
		p.t.Fatalf("program says %q, %v, want %q", got, err, want)
	}
}

func (p *peer) say(command, want string) {
	p.t.Helper()
	p.send(command)
	p.hear(want)
}

func (p *peer) state() State {
	p.t.Helper()
	l, err := Layout()
	if err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, StateSize)
	remote := []unix.RemoteIovec{{Base: uintptr(p.base + l.State), Len: len(b)}}
	if _, err := unix.ProcessVMReadv(p.pid, []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}, remote, 0); err != nil {
		p.t.Fatal(err)
	}
	s, err := ParseState(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *peer) write(off uint64, v uint32) {
	p.t.Helper()
	l, _ := Layout()
	b := binary.LittleEndian.AppendUint32(nil, v)
	remote := []unix.RemoteIovec{{Base: uintptr(p.base + l.State + off), Len: 4}}
	if _, err := unix.ProcessVMWritev(p.pid, []unix.Iovec{{Base: &b[0], Len: 4}}, remote, 0); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) until(what string, cond func(State) bool) State {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if s := p.state(); cond(s) {
			return s
		}
	}
	p.t.Fatalf("not within 10 s: %s: %+v", what, p.state())
	return State{}
}

// request waits until pid 1 has been told of one.
func (p *peer) request() State {
	p.t.Helper()
	if line, err := p.requests.ReadString('\n'); err != nil || line != "request\n" {
		p.t.Fatalf("init says %q, %v", line, err)
	}
	s := p.state()
	if s.Request != s.Published+1 {
		p.t.Fatalf("request %d, published %d", s.Request, s.Published)
	}
	p.write(OffTaken, s.Request)
	return s
}

// ask runs the callbacks as far as the tracer has them run before it stops.
func (p *peer) ask() {
	p.t.Helper()
	s := p.state()
	want := s.ServiceTID(p.inner)
	p.write(OffVerdict, VerdictUndecided)
	p.write(OffAsk, s.Ask+1)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, task := range tasks {
		if innermost(p.t, fmt.Sprintf("/proc/%d/task/%s/status", p.pid, task.Name())) == want {
			tid, _ := strconv.Atoi(task.Name())
			if err := unix.Tgkill(p.pid, tid, syscall.Signal(SignalService)); err != nil {
				p.t.Fatal(err)
			}
			p.until("callbacks are done", func(s State) bool { return s.Phase == PhaseReady })
			return
		}
	}
	p.t.Fatalf("no thread %d in %v", want, tasks)
}
