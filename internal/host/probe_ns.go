// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeTime bounds each helper; they take milliseconds.
const probeTime = 5 * time.Second

const (
	inPidNS   = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC
	inUserNS  = unix.CLONE_NEWUSER
	selfImage = "/proc/self/exe"
)

// attempt is what a helper tells of one thing it tried.
type attempt struct {
	Name  string
	What  string        // the operation that failed
	Errno syscall.Errno // 0: it worked
}

func (a attempt) err() error {
	if a.Errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", a.What, a.Errno)
}

// probeNamespaces launches a helper the way jobs are launched: root with
// namespaces alone, others inside a user namespace that maps them to themselves.
func probeNamespaces() []Check {
	flags := uintptr(inPidNS)
	if os.Geteuid() != 0 {
		flags |= inUserNS
	}
	tried, err := inNamespaces(flags)
	if err == nil {
		return namespaceChecks(nil, nil, tried)
	}
	if flags&inUserNS == 0 {
		return namespaceChecks(nil, err, nil)
	}
	if userErr := inUserNamespace(); userErr != nil {
		return namespaceChecks(userErr, userErr, nil)
	}
	return namespaceChecks(nil, err, nil)
}

func namespaceChecks(userErr, pidErr error, tried map[string]attempt) []Check {
	good := "made without privileges"
	if os.Geteuid() == 0 {
		good = "not needed: esky runs as root"
	}
	fix := func(err error) string { return namespaceFix(readSysctl, err) }
	checks := []Check{verdict(CheckUserNS, true, good, userErr, fix)}
	if userErr != nil {
		pidErr = errNoUserNS
	}
	checks = append(checks, verdict(CheckPidNS, true, "made", pidErr, fix))
	for _, c := range insideChecks {
		err := errNoPidNS
		if pidErr == nil {
			err = result(tried, c.Name)
		}
		checks = append(checks, verdict(c.Name, c.Needed, c.Detail, err, func(err error) string { return insideFix(readSysctl, c.Name, err) }))
	}
	return checks
}

var (
	errNoUserNS = errors.New("not tried: it needs a user namespace")
	errNoPidNS  = errors.New("not tried: it needs the job's namespaces")
	errSilent   = errors.New("the helper process ended before it could tell")
)

func result(tried map[string]attempt, name string) error {
	a, ok := tried[name]
	if !ok {
		return errSilent
	}
	return a.err()
}

// insideChecks are tried inside, or on what is inside; Detail is for success.
var insideChecks = []Check{
	{Name: CheckPids, Needed: true, Detail: "a resumed process gets its old pid"},
	{Name: CheckTimeNS, Needed: true, Detail: "the monotonic clock of a resumed job goes on where it stopped"},
	{Name: CheckProc, Detail: "a job sees its own pids there"},
	{Name: CheckPtrace, Needed: true, Detail: "processes of a job can be stopped and read"},
}

// inUserNamespace reports whether a user namespace can be made at all.
func inUserNamespace() error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	h, err := startHelper(ctx, cloneAttr(inUserNS), "idle")
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	h.end()
	return nil
}

// inNamespaces runs a helper in new namespaces and a second one outside that
// traces the first.
func inNamespaces(flags uintptr) (map[string]attempt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTime)
	defer cancel()
	h, err := startHelper(ctx, cloneAttr(flags), "inside")
	if err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	defer h.end()
	tried := map[string]attempt{}
	for range insideTries {
		var a attempt
		if h.reports.Decode(&a) != nil {
			break
		}
		tried[a.Name] = a
	}
	tried[CheckPtrace] = traceFromOutside(ctx, h.cmd.Process.Pid)
	return tried, nil
}

// traceFromOutside has a process trace pid that is neither its ancestor nor
// privileged, as the one that writes a checkpoint is.
func traceFromOutside(ctx context.Context, pid int) attempt {
	a := attempt{Name: CheckPtrace, What: "start a tracer", Errno: unix.EIO}
	h, err := startHelper(ctx, nil, "trace", strconv.Itoa(pid))
	if err != nil {
		errors.As(err, &a.Errno)
		return a
	}
	defer h.end()
	if err := h.reports.Decode(&a); err != nil {
		a.What = "hear of the tracer"
	}
	return a
}

func cloneAttr(flags uintptr) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: flags}
	if flags&inUserNS == 0 {
		return attr
	}
	uid, gid := os.Getuid(), os.Getgid()
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	// Executing a program with another uid than 0 drops all but the ambient ones.
	attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_CHECKPOINT_RESTORE, unix.CAP_SYS_TIME}
	return attr
}

// helper is this executable, running ProbeMain. It lives until its standard
// input ends.
type helper struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	reports *json.Decoder
}

func startHelper(ctx context.Context, attr *syscall.SysProcAttr, args ...string) (*helper, error) {
	cmd := exec.CommandContext(ctx, selfImage, append([]string{Verb}, args...)...)
	cmd.Args[0] = "esky-probe"
	cmd.Env = []string{} // no LD_PRELOAD, no GODEBUG
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &helper{cmd: cmd, stdin: stdin, reports: json.NewDecoder(stdout)}, nil
}

func (h *helper) end() {
	_ = h.stdin.Close()
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait() // killed: its status says nothing
}
