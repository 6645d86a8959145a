// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/namespace"
)

// asFirst is esky-wrap as the first process of a container. Every process in there
// whose parent has ended becomes a child of that one, which has to reap it
// (pid_namespaces(7)); and what waits for children of its own must not be the same
// process. So the program runs once more, as a child that gets all signals, and this
// one ends with it.
func asFirst(args []string) (int, error) {
	signals, stop := monitor.CatchSignals()
	defer stop()
	attr := &syscall.SysProcAttr{}
	if _, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS); err != nil {
		attr.Setsid = true // as what a runtime starts; a session has one terminal at most
	}
	child, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: attr,
	})
	if err != nil {
		return 0, fmt.Errorf("start esky-wrap below the container's first process: %w", err)
	}
	go func() {
		for s := range signals {
			_ = child.Signal(s) // one that has just ended needs none
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for esky-wrap: %w", err)
		case pid == child.Pid:
			return namespace.ExitOf(ws).Status(), nil
		}
	}
}
