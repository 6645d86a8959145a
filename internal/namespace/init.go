// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unshare(CLONE_NEWTIME) must be called by the thread-group leader, because
// that is the task /proc/self/timens_offsets is about; and ambient capabilities
// are a property of a thread. So the init's main goroutine stays on the main
// thread.
func init() {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		runtime.LockOSThread()
	}
}

// initProcess is the state of pid 1.
type initProcess struct {
	config  Config
	reports *gob.Encoder
	mainPid int
	exit    Exit
}

// InitMain is the init. It does not return.
func InitMain() {
	for _, fd := range []int{configFD, reportFD, lockFD} {
		unix.CloseOnExec(fd)
	}
	p := &initProcess{reports: gob.NewEncoder(os.NewFile(reportFD, "report"))}
	if err := gob.NewDecoder(os.NewFile(configFD, "config")).Decode(&p.config); err != nil {
		os.Exit(70)
	}
	p.catchSignals()
	if err := p.begin(); err != nil {
		p.complain(err)
		os.Exit(70)
	}
	p.reap()
	p.leaveStatus("")
	os.Exit(p.exit.Status())
}

func (p *initProcess) begin() error {
	if p.config.Shim {
		if err := p.beShim(); err != nil {
			return err
		}
	} else if err := p.mountProc(); err != nil {
		_ = p.reports.Encode(report{Note: err.Error()})
	}
	if p.config.Start != nil {
		return p.start(p.config.Start)
	}
	return p.resume(p.config.Resume)
}

// keepToItself closes, for the program, inherited descriptors that lead to
// other processes: with them it could never be checkpointed. Files it gets.
func (p *initProcess) keepToItself() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFREG || st.Mode&unix.S_IFMT == unix.S_IFDIR) {
			continue
		}
		link, _ := os.Readlink("/proc/self/fd/" + e.Name())
		_ = p.reports.Encode(report{Note: fmt.Sprintf("descriptor %d (%s) is not passed on to the job: it leads outside", fd, link)})
		unix.CloseOnExec(fd)
	}
}

// catchSignals keeps the init alive: what the scheduler sends to every process
// in sight is the monitor's business. Caught, not ignored, because what is
// ignored would stay ignored in the job; and what was ignored already (nohup)
// is left so.
func (p *initProcess) catchSignals() {
	requests := make(chan os.Signal, 8)
	signal.Notify(requests, syscall.Signal(RequestSignal))
	others := make(chan os.Signal, 8)
	for _, s := range []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGXCPU, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
	} {
		if !signal.Ignored(s) {
			signal.Notify(others, s)
		}
	}
	go func() {
		for {
			select {
			case <-requests:
				_ = p.reports.Encode(report{Request: true})
			case <-others:
			}
		}
	}()
}

// mountProc gives the pid namespace its own /proc. Containers that mask parts
// of /proc forbid it (mount_too_revealing in fs/namespace.c).
func (p *initProcess) mountProc() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts of the job to itself: %w", err)
	}
	// The message queues of the job's IPC namespace, where the host's were to be
	// seen (mq_overview(7)). Without the directory nobody misses them.
	_ = unix.Mount("mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	mountPts()
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc for the job: %w", err)
	}
	return nil
}

func (p *initProcess) start(s *Start) error {
	if !p.config.Shim {
		if err := p.settleIn(); err != nil {
			return forbidden{err}
		}
	}
	p.keepToItself()
	for _, sig := range s.Ignore {
		signal.Ignore(sig)
	}
	pid, err := p.spawn(s.Path, s.Argv, s.Env, s.Dir)
	if err != nil {
		return err
	}
	p.mainPid = pid
	return p.reports.Encode(report{Ready: true, Pid: pid})
}

// settleIn prepares the new namespaces for the program.
func (p *initProcess) settleIn() error {
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(FirstPid)), 0); err != nil {
		return fmt.Errorf("choose pids: %w", err)
	}
	// The program gets no capability that the user did not have.
	if !privileged() {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	return nil
}

func (p *initProcess) resume(r *Resume) error {
	p.mainPid, p.exit = r.MainPid, r.MainExit
	path, cleanup, err := executable(r.Seed)
	if err != nil {
		return err
	}
	defer cleanup()
	self, err := os.Open("/proc/self")
	if err != nil {
		return err
	}
	defer self.Close()
	// The seed comes before the clocks and joins them through its descriptor
	// SeedInitFD: until Linux 6.2 who has unshared its time namespace cannot
	// vfork (EINVAL from copy_process), which os.StartProcess does.
	pid, err := p.spawn(path, []string{"esky-seed"}, nil, "/", self)
	if err != nil {
		return err
	}
	if !p.config.Shim {
		if err := setClocks(r); err != nil {
			return forbidden{err}
		}
	}
	return p.reports.Encode(report{Ready: true, Pid: pid})
}

// setClocks makes a time namespace in which the clocks go on from where the
// image left them (time_namespaces(7)). The seed joins it.
func setClocks(r *Resume) error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make a time namespace: %w", err)
	}
	offset := func(clock int32, want time.Duration) (string, error) {
		var ts unix.Timespec
		if err := unix.ClockGettime(clock, &ts); err != nil {
			return "", err
		}
		d := int64(want) - ts.Nano()
		sec, nsec := d/1e9, d%1e9
		if nsec < 0 { // the file wants 0 <= nsec < 1e9, with any sign of the seconds
			sec, nsec = sec-1, nsec+1e9
		}
		return fmt.Sprintf("%d %d", sec, nsec), nil
	}
	mono, err := offset(unix.CLOCK_MONOTONIC, r.Monotonic)
	if err != nil {
		return err
	}
	boot, err := offset(unix.CLOCK_BOOTTIME, r.Boottime)
	if err != nil {
		return err
	}
	text := "monotonic " + mono + "\nboottime " + boot + "\n"
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(text), 0); err != nil {
		return fmt.Errorf("set the job's clocks: %w", err)
	}
	return nil
}

// executable puts a program where it can be executed without touching a disk.
func executable(elf []byte) (path string, cleanup func(), err error) {
	fd, err := unix.MemfdCreate("esky-seed", unix.MFD_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("make the seed: %w", err)
	}
	if _, err := unix.Write(fd, elf); err != nil {
		return "", nil, fmt.Errorf("make the seed: %w", err)
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), func() { unix.Close(fd) }, nil
}

// spawn executes a program in a session of its own: nothing outside the
// namespace can be a member of it, so all its ids can be restored.
func (p *initProcess) spawn(path string, argv, env []string, dir string, more ...*os.File) (int, error) {
	proc, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: dir, Env: env,
		Files: append([]*os.File{os.Stdin, os.Stdout, os.Stderr}, more...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, &execFailure{path, err}
	}
	pid := proc.Pid
	_ = proc.Release() // reaped with all the others
	return pid, nil
}

// reap waits for every process of the job, children and orphans.
func (p *initProcess) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return // ECHILD: nobody is left
		case p.isMain(pid):
			p.exit = ExitOf(ws)
			p.leaveStatus(MainStatusSuffix) // others may go on for long
		}
	}
}

// leaveStatus writes the exit where the monitor finds it, also the next one if the
// present one is dead. Without it a death by a signal is told as a status.
func (p *initProcess) leaveStatus(suffix string) {
	if p.config.StatusPath != "" {
		_ = WriteExit(p.config.StatusPath+suffix, p.exit)
	}
}

type forbidden struct{ error }

type execFailure struct {
	path string
	err  error
}

func (e *execFailure) Error() string { return e.err.Error() }

func (p *initProcess) complain(err error) {
	r := report{Error: err.Error(), Kind: "internal"}
	var ef *execFailure
	switch {
	case errors.As(err, &ef):
		r.Kind, r.Note, r.Status, r.Error = "exec", ef.path, 126, errnoText(ef.err)
		if errors.Is(ef.err, fs.ErrNotExist) {
			r.Status = 127
		}
	case errors.As(err, new(forbidden)):
		r.Kind = "namespace"
	}
	_ = p.reports.Encode(r)
}

func errnoText(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// Resolve finds the program as execvp(3) would.
func Resolve(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case errors.Is(err, exec.ErrDot):
		return path, nil
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return "", &ExecError{Path: name, Status: 127, Err: errors.New("command not found")}
	}
	return "", &ExecError{Path: name, Status: 126, Err: errors.New(errnoText(err))}
}
