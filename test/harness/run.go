// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Run is one incarnation of a job.
type Run struct {
	job    *Job
	cmd    *exec.Cmd
	done   chan struct{}
	stderr string
	status int
}

func (r *Run) begin() {
	r.job.T.Helper()
	if err := r.cmd.Start(); err != nil {
		r.job.T.Fatalf("%s: %v", r.cmd.Path, err)
	}
	go func() {
		_ = r.cmd.Wait() // the status says it
		r.status = statusOf(r.cmd)
		r.cmd.Stdout.(*os.File).Close()
		r.cmd.Stderr.(*os.File).Close()
		close(r.done)
	}()
	r.job.T.Cleanup(r.Crash)
}

func signalOf(s *os.ProcessState) syscall.Signal {
	return s.Sys().(syscall.WaitStatus).Signal()
}

// Pid of the monitor.
func (r *Run) Pid() int { return r.cmd.Process.Pid }

// Stderr is what this incarnation wrote to standard error so far.
func (r *Run) Stderr() string { return r.job.Read(r.stderr) }

// Ended says whether the incarnation is over.
func (r *Run) Ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Wait waits for the end of the incarnation and returns its status.
func (r *Run) Wait() int {
	r.job.T.Helper()
	select {
	case <-r.done:
		return r.status
	case <-time.After(Patience):
		r.job.T.Fatalf("no end after %s: %s\nprocesses:\n%s", Patience, r.Stderr(), describe(Tree(r.Pid())))
		return -1
	}
}

// WaitFor waits for the end and fails the test unless the status is want.
func (r *Run) WaitFor(want int) {
	r.job.T.Helper()
	if got := r.Wait(); got != want {
		r.job.T.Fatalf("status %d, want %d; esky said:\n%s", got, want, r.Stderr())
	}
}

// Until waits until cond holds. It fails the test when the incarnation ends or
// patience runs out first.
func (r *Run) Until(what string, cond func() bool) {
	r.job.T.Helper()
	for end := time.Now().Add(Patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if r.Ended() && !cond() {
			r.job.T.Fatalf("the run ended with status %d before %s; esky said:\n%s", r.status, what, r.Stderr())
		}
		if time.Now().After(end) {
			r.job.T.Fatalf("still not after %s: %s; esky said:\n%s\nprocesses:\n%s", Patience, what, r.Stderr(), describe(Tree(r.Pid())))
		}
	}
}

// Kill9 kills the monitor alone.
func (r *Run) Kill9() {
	_ = r.cmd.Process.Kill() // it may have ended already
	<-r.done
}

// Crash kills the monitor and everything that descends from it at once, as the
// end of a host does.
func (r *Run) Crash() {
	tree := Tree(r.Pid())
	for _, p := range tree {
		p.kill()
	}
	if !r.Ended() {
		_ = r.cmd.Process.Kill()
	}
	<-r.done
	for _, p := range tree {
		for end := time.Now().Add(10 * time.Second); p.alive() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}

// A Proc is a process as /proc shows it to the tests.
type Proc struct {
	Pid, Ppid int
	Start     string // time of start: tells a reused pid
	State     string
	Line      string // command line
}

func (p Proc) alive() bool {
	now, ok := readProc(p.Pid)
	return ok && now.Start == p.Start && now.State != "Z" && now.State != "X"
}

// kill ends the process and no other that has got its pid since: tests in shim mode
// use all of them up in a second or two.
func (p Proc) kill() {
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	if p.alive() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// Tree is the process pid and all its descendants. A process that ended is not
// in it, nor is what it left behind.
func Tree(pid int) []Proc {
	children := map[int][]Proc{}
	var root []Proc
	for _, p := range Processes() {
		children[p.Ppid] = append(children[p.Ppid], p)
		if p.Pid == pid {
			root = append(root, p)
		}
	}
	for i := 0; i < len(root); i++ {
		root = append(root, children[root[i].Pid]...)
	}
	return root
}

// Processes are all processes of this machine.
func Processes() []Proc {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic(err)
	}
	var all []Proc
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProc(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// Of are the processes that were started for the job in dir, also those that
// have lost their parents: their environment names the directory.
func Of(dir string) []Proc {
	var found []Proc
	for _, p := range Processes() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid))
		if err == nil && strings.Contains(string(env), "HOME="+dir+"\x00") && p.alive() {
			found = append(found, p)
		}
	}
	return found
}

// killLeftovers ends what a test left behind, such as a job whose monitor it
// killed.
func killLeftovers(dir string) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		left := Of(dir)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			p.kill()
		}
	}
}

func readProc(pid int) (Proc, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Proc{}, false // it ended
	}
	// The name in brackets may hold anything (proc_pid_stat(5)).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	ppid, _ := strconv.Atoi(fields[1])
	return Proc{pid, ppid, fields[19], fields[0],
		strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")}, true
}

func describe(tree []Proc) string {
	var b strings.Builder
	for _, p := range tree {
		wchan, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", p.Pid))
		fmt.Fprintf(&b, "  %d (of %d) %s %s %s\n", p.Pid, p.Ppid, p.State, wchan, p.Line)
	}
	return b.String()
}
