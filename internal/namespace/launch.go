// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Init is the running init of a job, seen by the monitor.
type Init struct {
	cmd      *exec.Cmd
	status   string   // Config.StatusPath
	MainPid  int      // of the program or the seed, in the job's namespace
	Notes    []string // what the host could not give
	requests chan uint32
	asked    uint32
}

// ExecError says that the init could not execute the program.
type ExecError struct {
	Path   string
	Status int // 127 or 126, as shells say it
	Err    error
}

func (e *ExecError) Error() string { return e.Path + ": " + e.Err.Error() }

// ForbiddenError says that the host does not let the user make the namespaces.
type ForbiddenError struct{ Err error }

func (e *ForbiddenError) Error() string { return e.Err.Error() }
func (e *ForbiddenError) Unwrap() error { return e.Err }

// Launch starts an init in new namespaces and waits until it has the program,
// or the seed, running. lock, if any, stays open in the init.
func Launch(c Config, streams Streams, lock *os.File) (*Init, error) {
	configR, configW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configW.Close()
	defer configR.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reportW.Close()

	cmd := exec.Command("/proc/self/exe", Verb)
	cmd.Args[0] = "esky-init"
	for i, own := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if streams[i] == nil {
			streams[i] = own
		}
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams[0], streams[1], streams[2]
	cmd.ExtraFiles = []*os.File{configR, reportW}
	if lock != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, lock)
	}
	if !c.Shim {
		cmd.SysProcAttr = cloneAttr()
	}
	if err := cmd.Start(); err != nil {
		reportR.Close()
		return nil, &ForbiddenError{fmt.Errorf("make the job's namespaces: %w", err)}
	}
	reportW.Close()
	// An init that has died before it could read this says so by its report,
	// or by the lack of one.
	_ = gob.NewEncoder(configW).Encode(c)
	configW.Close()

	i := &Init{cmd: cmd, status: c.StatusPath, requests: make(chan uint32, 1)}
	reports := gob.NewDecoder(reportR)
	if err := i.started(reports); err != nil {
		reportR.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	go i.listen(reports, reportR)
	return i, nil
}

// cloneAttr makes the namespaces. An ordinary user needs a user namespace to
// be allowed the others, and keeps the same uid and gid in it; executing a
// program with a uid other than 0 would drop the capabilities that it gives,
// except the ambient ones. Root must not have one: it would lose its power over
// other users' files.
func cloneAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC}
	if privileged() {
		return attr
	}
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_CHECKPOINT_RESTORE, unix.CAP_SYS_TIME, unix.CAP_SYS_CHROOT}
	return attr
}

func (i *Init) started(reports *gob.Decoder) error {
	for {
		var r report
		err := reports.Decode(&r)
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the job's init ended at once")
		case err != nil:
			return fmt.Errorf("read the init's report: %w", err)
		case r.Kind == "exec":
			return &ExecError{Path: r.Note, Status: r.Status, Err: errors.New(r.Error)}
		case r.Kind == "namespace":
			return &ForbiddenError{errors.New(r.Error)}
		case r.Ready:
			i.MainPid = r.Pid
			return nil
		case r.Note != "":
			i.Notes = append(i.Notes, r.Note)
		case r.Request: // the program was faster than the init's report
			i.request()
		}
	}
}

func (i *Init) listen(reports *gob.Decoder, r io.Closer) {
	defer r.Close()
	for {
		var rep report
		if reports.Decode(&rep) != nil {
			return
		}
		if rep.Request {
			i.request()
		}
	}
}

func (i *Init) request() {
	i.asked++
	select {
	case i.requests <- i.asked:
	default: // one is waiting already
	}
}

// Pid is the init's pid on the host.
func (i *Init) Pid() int { return i.cmd.Process.Pid }

// Requests delivers a value when a program of the job asks for a checkpoint.
func (i *Init) Requests() <-chan uint32 { return i.requests }

// Wait waits for the end of the job.
func (i *Init) Wait() (Exit, error) {
	err := i.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Exit{}, fmt.Errorf("wait for the job: %w", err)
	}
	e := ExitOf(i.cmd.ProcessState.Sys().(syscall.WaitStatus))
	e.Init = e.Signal != 0
	// The init itself ends with a status, also if a signal has ended the program.
	if exact, err := ReadExit(i.status); err == nil && !e.Init && exact.Status() == e.Code {
		return exact, nil
	}
	return e, nil
}
