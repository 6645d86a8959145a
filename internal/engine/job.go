// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/dump"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/shim"
)

// Job is a running job.
type Job struct {
	InitPid int // host pid of its init

	init       *namespace.Init // nil for a job taken over from a dead monitor
	pidfd      int             // of the init, to wait for one that is not our child
	statusPath string

	mu       sync.Mutex
	main     int // pid of the main process in the namespace
	host     int // the same on the host, once found
	known    []freeze.Sleeper
	waiting  []dump.Request // what the last image answers
	requests chan uint32
}

// memo is what a monitor has to know of a job that it takes over.
type memo struct {
	Main  int
	Known []freeze.Sleeper
	IDs   *ids.Table // of a job without namespaces
}

func newJob(i *namespace.Init, main int, statusPath string) *Job {
	j := &Job{InitPid: i.Pid(), init: i, main: main, statusPath: statusPath, requests: make(chan uint32, 1)}
	go func() {
		for n := range i.Requests() {
			j.acknowledge()
			j.requests <- n
		}
	}()
	j.remember()
	return j
}

// Start starts a program in namespaces of its own.
func Start(o StartOptions) (*Job, error) {
	path, err := o.resolve()
	if err != nil {
		return nil, launchError(err)
	}
	if err := forgetMain(o.StatusPath, &imagepb.Image{}); err != nil {
		return nil, err
	}
	i, err := launch(namespace.Config{
		StatusPath: o.StatusPath,
		Start:      &namespace.Start{Path: path, Argv: o.Argv, Env: o.Env, Dir: o.Dir, Ignore: o.Ignore},
	}, o.Mode, o.Streams, o.Lock)
	if err != nil {
		return nil, err
	}
	return newJob(i, i.MainPid, o.StatusPath), nil
}

// resolve finds the program as a shell in the job's directory would, which need not
// be that of this process.
func (o StartOptions) resolve() (string, error) {
	name := o.Argv[0]
	if strings.Contains(name, "/") && !filepath.IsAbs(name) && o.Dir != "" {
		name = filepath.Join(o.Dir, name)
	}
	path, err := namespace.Resolve(name)
	var exec *namespace.ExecError
	if errors.As(err, &exec) {
		exec.Path = o.Argv[0]
	}
	if err == nil && !filepath.IsAbs(path) && o.Dir != "" { // found by a relative part of PATH
		path = filepath.Join(o.Dir, path)
	}
	return path, err
}

// launchError turns errors of package namespace into ours.
func launchError(err error) error {
	var exec *namespace.ExecError
	var forbidden *namespace.ForbiddenError
	switch {
	case errors.As(err, &exec):
		return &ExecError{Path: exec.Path, Status: exec.Status, Err: exec.Err}
	case errors.As(err, &forbidden):
		return &NoNamespacesError{forbidden.Err}
	}
	return err
}

// Attach takes over a job whose monitor has died.
func Attach(initPid int, statusPath string) (*Job, error) {
	fd, err := unix.PidfdOpen(initPid, 0)
	if err != nil {
		return nil, fmt.Errorf("take over the job of init %d: %w", initPid, err)
	}
	j := &Job{InitPid: initPid, pidfd: fd, statusPath: statusPath, requests: make(chan uint32, 1)}
	b, err := os.ReadFile(j.memoPath())
	if err != nil {
		return nil, fmt.Errorf("take over the job of init %d: %w", initPid, err)
	}
	var m memo
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("take over the job of init %d: read %s: %w", initPid, j.memoPath(), err)
	}
	j.main, j.known = m.Main, m.Known
	ids.Use(m.IDs)
	go j.lookForRequests()
	return j, nil
}

// lookPeriod is how often is looked whether a program of a job that was taken over
// asks for a checkpoint: its init tells the dead monitor.
const lookPeriod = 5000 // ms

func (j *Job) lookForRequests() {
	heard := map[int]uint32{}
	for {
		p := []unix.PollFd{{Fd: int32(j.pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, lookPeriod); n > 0 || err != nil && err != unix.EINTR {
			return
		}
		asked := false
		for _, r := range dump.Requests(j.InitPid) {
			asked = asked || heard[r.HostPid] != r.Count
			heard[r.HostPid] = r.Count
		}
		if asked {
			j.acknowledge()
			j.requests <- 0
		}
	}
}

func (j *Job) memoPath() string { return j.statusPath + ".job" }

// forgetMain removes the main process's status of an earlier incarnation, or
// writes that of the image if it had ended by then.
func forgetMain(statusPath string, meta *imagepb.Image) error {
	if statusPath == "" {
		return nil
	}
	path := statusPath + namespace.MainStatusSuffix
	if meta.MainExited {
		return namespace.WriteExit(path, mainExit(meta))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mainExit is how the main process ended, by the image.
func mainExit(meta *imagepb.Image) Exit {
	return namespace.FromStatus(int(meta.MainStatus), syscall.Signal(meta.MainSignal))
}

// mainExit is how the main process ended, if it has.
func (j *Job) mainExit() Exit {
	e, _ := namespace.ReadExit(j.statusPath + namespace.MainStatusSuffix)
	return e
}

// remember writes the memo. It is for a case that should not happen, so its
// failure is no reason to fail.
func (j *Job) remember() {
	if j.statusPath == "" {
		return
	}
	if b, err := json.Marshal(memo{j.main, j.known, ids.Current()}); err == nil {
		_ = os.WriteFile(j.memoPath(), b, 0o600)
	}
}

// MainPid is the host pid of the main process, 0 when it is gone.
func (j *Job) MainPid() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if isPid(j.host, j.main) {
		return j.host
	}
	pids, _ := freeze.Descendants(j.InitPid)
	for _, pid := range pids {
		if isPid(pid, j.main) {
			j.host = pid
			return pid
		}
	}
	return 0
}

func isPid(host, inside int) bool {
	if host == 0 {
		return false
	}
	status, err := procfs.ReadStatus(host, 0)
	return err == nil && procfs.Eye(host) != 0 && ids.Virtual(status.NSpid[len(status.NSpid)-1]) == inside
}

// Wait waits for the end of the job.
func (j *Job) Wait() (Exit, error) {
	if j.init != nil {
		e, err := j.init.Wait()
		if ids.Shim() {
			sweep()
		}
		return e, err
	}
	for {
		p := []unix.PollFd{{Fd: int32(j.pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == nil {
			break
		} else if err != unix.EINTR {
			return Exit{}, fmt.Errorf("wait for the job: %w", err)
		}
	}
	return LastExit(j.statusPath)
}

// LastExit is how a job ended, as its init left it.
func LastExit(statusPath string) (Exit, error) {
	e, err := namespace.ReadExit(statusPath)
	if errors.Is(err, fs.ErrNotExist) { // the init was killed
		return Exit{Signal: unix.SIGKILL, Init: true}, nil
	}
	return e, err
}

// Signal sends a signal to the main process and its group.
func (j *Job) Signal(sig syscall.Signal) error {
	pid := j.MainPid()
	if pid == 0 {
		return unix.ESRCH
	}
	if err := unix.Kill(-pid, sig); err == nil {
		return nil
	}
	return unix.Kill(pid, sig)
}

// Kill ends everything at once and waits until it is gone. Wait must be called
// still.
func (j *Job) Kill() error {
	fd, err := unix.PidfdOpen(j.InitPid, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	if ids.Shim() {
		if err := killMembers(j.InitPid); err != nil {
			return err
		}
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill the job: %w", err)
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(p, -1); err != unix.EINTR {
			return err
		}
	}
}

// CPU is the processor time that the job's present processes have used.
func (j *Job) CPU() time.Duration {
	var sum time.Duration
	j.each(func(pid int) {
		if st, err := procfs.ReadStat(pid, 0); err == nil {
			sum += st.CPU()
		}
	})
	return sum
}

// MemoryBytes is the memory in use.
func (j *Job) MemoryBytes() int64 {
	var sum int64
	j.each(func(pid int) {
		if st, err := procfs.ReadStatus(pid, 0); err == nil {
			sum += int64(st.VmRSS + st.VmSwap)
		}
	})
	return sum
}

func (j *Job) each(f func(pid int)) {
	pids, _ := freeze.Descendants(j.InitPid)
	for _, pid := range pids {
		f(pid)
	}
}

// Requests delivers a value when a program calls esky_checkpoint().
func (j *Job) Requests() <-chan uint32 { return j.requests }

// acknowledge tells the programs that wait that somebody has heard them.
func (j *Job) acknowledge() {
	for _, s := range dump.Requests(j.InitPid) {
		_ = s.Write(shim.OffTaken, s.Count)
	}
}

// Answer tells the programs that asked for a checkpoint that it is published,
// or, with an error, that there is none.
func (j *Job) Answer(_ uint32, err error) {
	j.mu.Lock()
	waiting := j.waiting
	j.waiting = nil
	j.mu.Unlock()
	result := uint32(0)
	if err != nil {
		result = ^uint32(0)
		waiting = dump.Requests(j.InitPid)
	}
	for _, s := range waiting {
		if s.Write(shim.OffResult, result) == nil {
			_ = s.Write(shim.OffPublished, s.Count)
		}
	}
	// Those that asked after the freeze get another one.
	if err == nil && len(dump.Requests(j.InitPid)) > 0 {
		select {
		case j.requests <- 0:
		default: // one is waiting already
		}
	}
}
