// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/test/harness"
)

const childVar = "ESKY_FREEZE_CHILD"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == namespace.Verb {
		namespace.InitMain()
	}
	if what := os.Getenv(childVar); what != "" {
		children[what](os.Args[1])
	}
	os.Exit(harness.AsUser(m, nil))
}

func init() {
	if os.Getenv(childVar) != "" {
		runtime.LockOSThread() // the main goroutine, to the main thread
	}
}

// children are the programs that are frozen. Each writes to its file what
// befalls it.
var children = map[string]func(file string){
	"threads": func(file string) {
		for i := range 8 {
			go func() {
				runtime.LockOSThread()
				beat(fmt.Sprintf("%s.%d", file, i))
			}()
		}
		beat(file)
	},
	"headless": func(file string) {
		go func() {
			runtime.LockOSThread()
			beat(file)
		}()
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0) // of this thread alone
	},
	"executes": func(file string) {
		write(file, "runs")
		go func() {
			runtime.LockOSThread()
			for read(file+".go") == "" {
				time.Sleep(time.Millisecond)
			}
			panic(unix.Exec("/bin/sleep", []string{"sleep", "1000"}, nil))
		}()
		select {}
	},
	"epoll": func(file string) {
		ep, err := unix.EpollCreate1(0)
		if err != nil {
			panic(err)
		}
		write(file, "waits")
		var e unix.EpollEvent
		_, _, errno := unix.Syscall6(unix.SYS_EPOLL_WAIT, uintptr(ep), ptr(&e), 1, 30000, 0, 0)
		write(file, errno.Error())
		select {}
	},
}

// beat writes a number that grows, every millisecond.
func beat(file string) {
	for i := 0; ; i++ {
		write(file, fmt.Sprint(i))
		ts := unix.NsecToTimespec(1e6)
		_ = unix.Nanosleep(&ts, nil)
	}
}

func write(file, text string) {
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err == nil {
		_ = os.Rename(file+".new", file)
	}
}

func read(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}

// program is a running child in namespaces of its own.
type program struct {
	t    *testing.T
	file string
	init *namespace.Init
	pid  int // on the host
}

func start(t *testing.T, what string) *program {
	t.Helper()
	p := &program{t: t, file: filepath.Join(t.TempDir(), "file")}
	var err error
	p.init, err = namespace.Launch(namespace.Config{Start: &namespace.Start{
		Path: "/proc/self/exe", Argv: []string{"child", p.file}, Env: []string{childVar + "=" + what}, Dir: "/",
	}}, namespace.Streams{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(p.init.Pid(), unix.SIGKILL)
		_, _ = p.init.Wait()
	})
	p.await("first word", func() bool { return read(p.file) != "" })
	pids, err := Descendants(p.init.Pid())
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	p.pid = pids[0]
	return p
}

func (p *program) await(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("no %s; the child says %q", what, read(p.file))
		}
	}
}

// traced counts the threads that have a tracer.
func (p *program) traced() (n int) {
	tids, _ := procfs.Tasks(p.pid)
	for _, tid := range tids {
		if s, err := procfs.ReadStatus(p.pid, tid); err == nil && s.TracerPid != 0 {
			n++
		}
	}
	return n
}

// onThread runs the test on one thread, as a tracer has to.
func onThread(t *testing.T) {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

func options() Options { return Options{Limit: 10 * time.Second} }

func TestFreezeThreads(t *testing.T) {
	onThread(t)
	p := start(t, "threads")
	files := func() (all []string) {
		for i := range 8 {
			all = append(all, read(fmt.Sprintf("%s.%d", p.file, i)))
		}
		return append(all, read(p.file))
	}
	p.await("words of all threads", func() bool { return !strings.Contains("|"+strings.Join(files(), "|")+"|", "||") })
	j, err := Freeze(context.Background(), Tree{Init: p.init.Pid()}, options())
	if err != nil {
		t.Fatal(err)
	}
	tids, err := procfs.Tasks(p.pid)
	if err != nil || len(j.Processes) != 1 || len(j.Processes[0].Threads) != len(tids) || len(tids) < 9 {
		t.Fatalf("%d processes, %d threads of %v", len(j.Processes), len(j.Processes[0].Threads), tids)
	}
	if leader := j.Processes[0].Leader(); leader.HostTid != p.pid || leader.Tid != p.init.MainPid {
		t.Errorf("leader %+v", leader)
	}
	for _, tid := range tids {
		if st, err := procfs.ReadStat(p.pid, tid); err != nil || st.State != 't' {
			t.Errorf("thread %d: state %c, %v", tid, st.State, err)
		}
	}
	before := files()
	time.Sleep(30 * time.Millisecond)
	if after := files(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("something ran on: %v, then %v", before, after)
	}
	if err := j.Thaw(); err != nil {
		t.Fatal(err)
	}
	for i := range before {
		p.await("progress", func() bool { return files()[i] != before[i] })
	}
	if n := p.traced(); n != 0 {
		t.Errorf("%d threads are still traced", n)
	}
}

func TestFreezeStopped(t *testing.T) {
	onThread(t)
	p := start(t, "threads")
	state := func(s byte) func() bool {
		return func() bool { st, err := procfs.ReadStat(p.pid, 0); return err == nil && st.State == s }
	}
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.await("group-stop", state('T'))
	for range 2 {
		j, err := Freeze(context.Background(), Tree{Init: p.init.Pid()}, options())
		if err != nil {
			t.Fatal(err)
		}
		if got := j.Processes[0].Stopped; got != unix.SIGSTOP {
			t.Errorf("stopped by %v", got)
		}
		if err := j.Thaw(); err != nil {
			t.Fatal(err)
		}
		p.await("group-stop after the thaw", state('T'))
	}
	before := read(p.file)
	if err := unix.Kill(p.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.await("progress after SIGCONT", func() bool { return read(p.file) != before })
}

// TestContinuedInThePause: SIGCONT that comes while a stopped job is frozen is
// not lost.
func TestContinuedInThePause(t *testing.T) {
	onThread(t)
	p := start(t, "threads")
	if err := unix.Kill(p.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.await("group-stop", func() bool { st, err := procfs.ReadStat(p.pid, 0); return err == nil && st.State == 'T' })
	j, err := Freeze(context.Background(), Tree{Init: p.init.Pid()}, options())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	before := read(p.file)
	if err := j.Thaw(); err != nil {
		t.Fatal(err)
	}
	p.await("progress", func() bool { return read(p.file) != before })
}

// TestWithoutMainThread: a process whose main thread has ended is no zombie; it is
// seen by way of another thread.
func TestWithoutMainThread(t *testing.T) {
	onThread(t)
	p := start(t, "headless")
	p.await("end of the main thread", func() bool { st, err := procfs.ReadStat(p.pid, 0); return err == nil && st.State == 'Z' })
	j, err := Freeze(context.Background(), Tree{Init: p.init.Pid()}, options())
	if err != nil {
		t.Fatal(err)
	}
	f := j.Processes[0]
	if !f.MainEnded() || f.Zombie || f.Pid != p.init.MainPid || f.HostPid != p.pid || f.Eye != f.Leader().HostTid || f.Eye == p.pid {
		t.Errorf("%+v", f)
	}
	if f.Stat.Pid != p.pid || f.Stat.StartStack == 0 {
		t.Errorf("stat %+v", f.Stat)
	}
	before := read(p.file)
	if err := j.Thaw(); err != nil {
		t.Fatal(err)
	}
	p.await("progress", func() bool { return read(p.file) != before })
	if n := p.traced(); n != 0 {
		t.Errorf("%d threads are still traced", n)
	}
}

// TestReleaseIsNotNoticed: a freeze that is given up leaves no trace, not even
// in a call that the kernel ends with EINTR for a tracer.
func TestReleaseIsNotNoticed(t *testing.T) {
	onThread(t)
	p := start(t, "epoll")
	waits := func() bool {
		for _, tid := range must(procfs.Tasks(p.pid)) {
			if strings.HasPrefix(read(fmt.Sprintf("/proc/%d/task/%d/syscall", p.pid, tid)), fmt.Sprint(unix.SYS_EPOLL_WAIT, " ")) {
				return true
			}
		}
		return false
	}
	p.await("epoll_wait", waits)
	j := &Job{Tree: Tree{Init: p.init.Pid()}, threads: map[int]*Thread{}, deadline: time.Now().Add(10 * time.Second)}
	if err := j.stopAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(j.threads) < 2 || p.traced() != len(j.threads) {
		t.Errorf("%d threads, %d traced", len(j.threads), p.traced())
	}
	if _, err := j.release(nil); err != nil {
		t.Fatal(err)
	}
	if n := p.traced(); n != 0 {
		t.Errorf("%d threads are still traced", n)
	}
	p.await("epoll_wait again", waits)
	time.Sleep(20 * time.Millisecond)
	if said := read(p.file); said != "waits" {
		t.Errorf("the program noticed: %s", said)
	}
}

// TestSeizeWhileExecuting: a thread that executes a program waits until the other
// threads are dead and noticed, and whoever seizes it waits for it.
func TestSeizeWhileExecuting(t *testing.T) {
	onThread(t)
	p := start(t, "executes")
	tids := must(procfs.Tasks(p.pid))
	for _, tid := range tids {
		if tid != p.pid {
			if err := unix.PtraceSeize(tid); err != nil { // without options: new threads are not ours
				t.Fatal(err)
			}
		}
	}
	write(p.file+".go", "go")
	p.await("death of the main thread", func() bool { st, err := procfs.ReadStat(p.pid, 0); return err == nil && st.State == 'Z' })
	began := time.Now()
	stuck := time.AfterFunc(5*time.Second, func() { // no other way out: we wait for ourselves
		for _, tid := range tids {
			tracee.Reap(tid)
		}
	})
	_ = seize(p.pid, p.pid) // the thread that executes takes this tid; either way is good
	stuck.Stop()
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
	p.await("the new program", func() bool { st, err := procfs.ReadStat(p.pid, 0); return err == nil && st.Comm == "sleep" })
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.await("end of the new program", func() bool { return tracee.Reap(p.pid) })
}

func must(v []int, _ error) []int { return v }

func TestFreezeCancelled(t *testing.T) {
	onThread(t)
	p := start(t, "threads")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Freeze(ctx, Tree{Init: p.init.Pid()}, options()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := p.traced(); n != 0 {
		t.Errorf("%d threads are still traced", n)
	}
}

func TestFreezeTraced(t *testing.T) {
	onThread(t)
	p := start(t, "threads")
	done, quit := make(chan error), make(chan bool)
	go func() { // a debugger
		runtime.LockOSThread()
		done <- unix.PtraceSeize(p.pid)
		<-quit
		_ = unix.Kill(p.pid, unix.SIGKILL)
		for !tracee.Reap(p.pid) {
			time.Sleep(time.Millisecond)
		}
		close(done)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(quit)
		<-done
	}()
	_, err := Freeze(context.Background(), Tree{Init: p.init.Pid()}, options())
	if err == nil || !strings.Contains(err.Error(), "is being traced by pid") {
		t.Errorf("error %v", err)
	}
}

func TestFreezeNothing(t *testing.T) {
	onThread(t)
	if _, err := Freeze(context.Background(), Tree{Init: 1 << 22}, options()); !errors.Is(err, ErrEnded) {
		t.Errorf("error %v", err)
	}
}

// TestClockShift: outside of a time namespace nothing is shifted.
func TestClockShift(t *testing.T) {
	shift, err := ClockShift(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for clock, d := range shift {
		if d != 0 {
			t.Errorf("%s is shifted by %v", clock, d)
		}
	}
}
