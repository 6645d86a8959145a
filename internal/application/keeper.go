// SPDX-License-Identifier: Apache-2.0

package application

import (
	"encoding/json"
	"errors"
	"fmt"
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

// verb is the hidden command by which this program becomes a keeper.
const verb = "__keep"

// Descriptors of a keeper.
const (
	specFD   = 3 + iota // is read: the spec
	reportFD            // is written: the report
	holdFD              // is only held
)

// spec is what a keeper has to do.
type spec struct {
	Argv     []string // to start with
	Command  []string // as it was started first
	Env      []string
	Dir      string
	StateDir string
	Config   Config
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

// KeeperMain is to be called first by every program that has this provider in it.
// It returns false unless the program was started as a keeper.
func KeeperMain(args []string) bool {
	if len(args) != 2 || args[1] != verb {
		return false
	}
	// PR_SET_PDEATHSIG is tied to the thread that starts the program.
	runtime.LockOSThread()
	if err := keep(); err != nil {
		os.Exit(1)
	}
	return true
}

// keeper is the process that a job descends from.
type keeper struct {
	spec
	start uint64
	tee   *tee

	mu       sync.Mutex
	up       bool // there may be processes of the job
	main     int
	doom     chan struct{}            // closed when it is killed
	leaving  *leaving                 // the program was asked to end
	awaiting map[int]chan plugin.Exit // other children that are waited for

	saving sync.Mutex
}

// leaving is how the end of the program that was asked to end is passed to who asked,
// and what comes of it passed back.
type leaving struct {
	exit    chan plugin.Exit
	verdict chan verdict
}

type verdict struct {
	next  []string // to start
	ended bool     // the job is saved, and nothing is started
}

// killed is how a job ends that was ended from outside.
var killed = plugin.Exit{Signal: unix.SIGKILL}

func keep() error {
	for fd := specFD; fd <= holdFD; fd++ {
		unix.CloseOnExec(fd) // not for the program
	}
	k := &keeper{awaiting: map[int]chan plugin.Exit{}, doom: make(chan struct{})}
	if err := json.NewDecoder(os.NewFile(specFD, "spec")).Decode(&k.spec); err != nil {
		return err
	}
	out := os.NewFile(reportFD, "report")
	socket, err := k.prepare()
	if err == nil {
		err = k.launch(k.Argv)
	}
	r := report{Socket: socket, Start: k.start, Err: asError(err)}
	if err := errors.Join(json.NewEncoder(out).Encode(r), out.Close()); err != nil {
		return err // the provider has died before it knew of us, and so has the program
	}
	if r.Err != nil {
		return r.Err
	}
	exit := k.live()
	b, err := json.Marshal(ending{os.Getpid(), k.start, exit})
	if err != nil {
		return err
	}
	return writeFile(endingPath(k.StateDir), b)
}

// asError keeps what can be kept of an error.
func asError(err error) *plugin.Error {
	var e *plugin.Error
	if err == nil || errors.As(err, &e) {
		return e
	}
	kind := plugin.Internal
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS):
		kind = plugin.Storage
	case errors.Is(err, fs.ErrNotExist):
		kind = plugin.NotFound
	}
	return &plugin.Error{Kind: kind, Text: err.Error()}
}

func (k *keeper) prepare() (socket string, err error) {
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
	if k.tee, err = newTee(k.Config.Done.Output); err != nil {
		return "", err
	}
	return k.serve()
}

// launch starts the program.
func (k *keeper) launch(argv []string) error {
	if k.Config.Ask.File != "" { // a request of earlier days
		if err := os.Remove(k.Config.Ask.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	files, done, err := k.tee.open()
	if err != nil {
		return err
	}
	defer done()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.doomed() {
		return plugin.Errorf(plugin.Ended, "", "the job was killed")
	}
	pid, err := k.fork(argv, k.Env, files)
	if err != nil {
		return err
	}
	k.main, k.up = pid, true
	return nil
}

// fork starts a child. The mutex is held, so that the child is not reaped before it
// is known.
func (k *keeper) fork(argv, env []string, files []*os.File) (int, error) {
	path, err := exec.LookPath(argv[0])
	if err == nil {
		var p *os.Process
		p, err = os.StartProcess(path, argv, &os.ProcAttr{
			Dir: k.Dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
		})
		if err == nil {
			defer p.Release()
			return p.Pid, nil
		}
	}
	e := plugin.Errorf(plugin.Exec, "", "execute %s: %v", argv[0], err)
	e.Status = 126
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		e.Status = 127
	}
	return 0, e
}

// doomed tells whether the job was killed. The mutex is held.
func (k *keeper) doomed() bool {
	select {
	case <-k.doom:
		return true
	default:
		return false
	}
}

// live waits for the end of the job: the program may leave and be restarted.
func (k *keeper) live() plugin.Exit {
	for {
		exit := k.reap()
		k.mu.Lock()
		l := k.leaving
		k.mu.Unlock()
		if l == nil {
			return exit
		}
		l.exit <- exit
		v := <-l.verdict
		if v.ended {
			return killed
		}
		if v.next == nil {
			return exit
		}
		err := k.launch(v.next)
		if plugin.KindOf(err) == plugin.Ended {
			return killed
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "esky: the program has left for a checkpoint and cannot be started again: %v\n", err)
			return plugin.Exit{Code: 75} // EX_TEMPFAIL, sysexits.h
		}
	}
}

// reap waits until no process of the job is left, and returns the status of the
// main one.
func (k *keeper) reap() (main plugin.Exit) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		k.mu.Lock()
		if err == unix.ECHILD { // again, now that nobody can fork
			if pid, err = unix.Wait4(-1, &ws, unix.WNOHANG, nil); err == unix.ECHILD {
				k.up, k.main = false, 0
				k.mu.Unlock()
				k.tee.drain()
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
