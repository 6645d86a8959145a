// SPDX-License-Identifier: Apache-2.0

// Package keeper is the process that a job of a provider descends from: it lives as
// long as the job, waits for it, holds what is to be held, and writes down how the
// job ended. Only it has state, so that a provider may die at any time.
//
// keeper.go    the process: start, wait, end
// talk.go      in it: what providers ask for, checkpoints
// signal.go    in it: signals to the main process and to all
// jobs.go      in a provider: its jobs, which have a keeper each
// launch.go    in a provider: start a keeper, take one over
// files.go     small things that both need
package keeper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// verb is the hidden command by which a program becomes a keeper; the name of the
// provider follows.
const verb = "__keep"

// Descriptors of a keeper.
const (
	specFD   = 3 + iota // is read: the spec
	reportFD            // is written: the report
	holdFD              // is only held
)

// Spec is what a keeper has to do.
type Spec struct {
	Command  []string // as it was started first
	Env      []string
	Dir      string
	StateDir string
	Own      json.RawMessage // the provider's
}

// Trade is what in a keeper is a provider's own.
type Trade interface {
	// Launch starts the program, or resumes it, and returns the pid of its main
	// process, a child of this one.
	Launch() (pid int, err error)
	// Checkpoint makes a checkpoint. There is one at a time.
	Checkpoint(s *Saving) error
	// Left is told that no process is left, and how the main one ended; it says how
	// the job has ended, unless it has made it go on.
	Left(exit plugin.Exit) (ended plugin.Exit, goesOn bool)
}

// report tells whether the program runs.
type report struct {
	Socket string        `json:"socket,omitempty"`
	Start  uint64        `json:"start,omitempty"` // of the keeper, field 22 of proc_pid_stat(5)
	Err    *plugin.Error `json:"err,omitempty"`
}

// ending is how a job ended, in a file of the state directory.
type ending struct {
	Pid   int         `json:"pid"` // of the keeper, and
	Start uint64      `json:"start"`
	Exit  plugin.Exit `json:"exit"`
}

func endingPath(stateDir string) string { return filepath.Join(stateDir, "ended") }

// Main is to be called first by every program that has the provider of this name in
// it. It returns false unless the program was started as a keeper for it.
func Main(args []string, name string, trade func(*Keeper) (Trade, error)) bool {
	if len(args) != 3 || args[1] != verb || args[2] != name {
		return false
	}
	// PR_SET_PDEATHSIG is tied to the thread that starts the program.
	runtime.LockOSThread()
	if err := keep(trade); err != nil {
		os.Exit(1)
	}
	return true
}

// Keeper is the process that a job descends from.
type Keeper struct {
	Spec
	trade Trade
	start uint64
	doom  chan struct{} // closed when the job is killed

	mu       sync.Mutex
	up       bool // there may be processes of the job
	main     int
	awaiting map[int]chan plugin.Exit // other children that are waited for

	saving sync.Mutex
}

// Killed is how a job ends that was ended from outside.
var Killed = plugin.Exit{Signal: unix.SIGKILL}

func keep(trade func(*Keeper) (Trade, error)) error {
	for fd := specFD; fd <= holdFD; fd++ {
		unix.CloseOnExec(fd) // not for the program
	}
	k := &Keeper{awaiting: map[int]chan plugin.Exit{}, doom: make(chan struct{})}
	if err := json.NewDecoder(os.NewFile(specFD, "spec")).Decode(&k.Spec); err != nil {
		return err
	}
	out := os.NewFile(reportFD, "report")
	socket, err := k.prepare(trade)
	if err == nil {
		err = k.Launch()
	}
	r := report{Socket: socket, Start: k.start, Err: AsError(err)}
	if err := errors.Join(json.NewEncoder(out).Encode(r), out.Close()); err != nil {
		return err // the provider has died before it knew of us, and so has the program
	}
	if r.Err != nil {
		return r.Err
	}
	exit, goesOn := plugin.Exit{}, true
	for goesOn {
		exit, goesOn = k.trade.Left(k.reap())
	}
	b, err := json.Marshal(ending{os.Getpid(), k.start, exit})
	if err != nil {
		return err
	}
	return WriteFile(endingPath(k.StateDir), b)
}

func (k *Keeper) prepare(trade func(*Keeper) (Trade, error)) (socket string, err error) {
	// A scheduler may signal everything that it finds: signals that mean the job
	// reach it by Signal. A handler, not SIG_IGN, which the program would inherit
	// (execve(2)).
	signals := make(chan os.Signal, 1)
	for n := syscall.Signal(1); n < 32; n++ {
		if n != unix.SIGCHLD && n != unix.SIGURG && !signal.Ignored(n) {
			signal.Notify(signals, n)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return "", os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
	}
	stat, err := procfs.ReadStat(os.Getpid(), 0)
	if err != nil {
		return "", err
	}
	k.start = stat.Starttime
	if err := os.Chdir(k.Dir); err != nil {
		return "", err
	}
	os.Clearenv()
	for _, kv := range k.Env { // for the search path, which is the job's
		if len(kv) > 5 && kv[:5] == "PATH=" {
			os.Setenv("PATH", kv[5:])
		}
	}
	if err := os.Remove(endingPath(k.StateDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if k.trade, err = trade(k); err != nil {
		return "", err
	}
	return k.serve()
}

// Launch has the trade start the program.
func (k *Keeper) Launch() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.doomed() {
		return plugin.Errorf(plugin.Ended, "", "the job was killed")
	}
	pid, err := k.trade.Launch()
	if err != nil {
		return err
	}
	k.main, k.up = pid, true
	return nil
}

// Fork starts a child that ends with this process. attr has the rest: a session or a
// group of its own. The caller is Launch, or Beside.
func (k *Keeper) Fork(argv, env []string, files []*os.File, attr syscall.SysProcAttr) (int, error) {
	path, err := Find(argv[0])
	if err != nil {
		return 0, err
	}
	attr.Pdeathsig = unix.SIGKILL
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Dir: k.Dir, Env: env, Files: files, Sys: &attr})
	if err != nil {
		return 0, execError(argv[0], err)
	}
	defer p.Release()
	return p.Pid, nil
}

// Find looks for a program as the job would; kind Exec: it cannot be executed.
func Find(name string) (path string, err error) {
	if path, err = exec.LookPath(name); err != nil {
		return "", execError(name, err)
	}
	return path, nil
}

func execError(name string, err error) error {
	e := plugin.Errorf(plugin.Exec, "", "execute %s: %v", name, err)
	e.Status = 126
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		e.Status = 127
	}
	return e
}

// Streams are the standard streams of the job.
func Streams() []*os.File { return []*os.File{os.Stdin, os.Stdout, os.Stderr} }

// Main is the pid of the main process; kind Ended: there is none any more.
func (k *Keeper) Main() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.main == 0 {
		return 0, plugin.Errorf(plugin.Ended, "", "the program has ended")
	}
	return k.main, nil
}

// doomed tells whether the job was killed.
func (k *Keeper) doomed() bool {
	select {
	case <-k.doom:
		return true
	default:
		return false
	}
}

// reap waits until no process of the job is left, and returns the status of the
// main one.
func (k *Keeper) reap() (main plugin.Exit) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		k.mu.Lock()
		if err == unix.ECHILD { // again, now that nobody can fork
			if pid, err = unix.Wait4(-1, &ws, unix.WNOHANG, nil); err == unix.ECHILD {
				k.up, k.main = false, 0
				k.mu.Unlock()
				return main
			}
		}
		if err == nil && pid > 0 {
			exit := exitOf(ws)
			if c := k.awaiting[pid]; c != nil {
				c <- exit
				delete(k.awaiting, pid)
			}
			if pid == k.main {
				main, k.main = exit, 0
			}
		}
		k.mu.Unlock()
	}
}

func exitOf(ws unix.WaitStatus) plugin.Exit {
	if ws.Signaled() {
		return plugin.Exit{Signal: ws.Signal()}
	}
	return plugin.Exit{Code: ws.ExitStatus()}
}
