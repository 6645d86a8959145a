// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// meaning is what a signal to the monitor asks for.
type meaning int

const (
	meansNothing meaning = iota
	meansLeave           // checkpoint, then hand the job back to the scheduler
	meansForward         // the job's business
	meansStop            // the job's business, and ours where there is a terminal
)

// handled are the signals the monitor catches: those that somebody may mean
// for the job. Not among them: what the kernel raises for our own faults, what
// the Go runtime uses (URG, PROF), CHLD, PIPE (a reader of our messages that is
// gone must not end the job), TTIN and TTOU (catching them makes background
// terminal output an endless loop).
func handled() []os.Signal {
	signals := []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGPWR, unix.SIGWINCH, unix.SIGIO,
		unix.SIGTSTP, unix.SIGCONT,
	}
	// Real-time signals; 32 to 34 are the C libraries' own.
	for s := syscall.Signal(35); s <= 64; s++ {
		signals = append(signals, s)
	}
	return signals
}

// CatchSignals begins to collect the signals a monitor acts on. Those that were
// ignored when we were started stay ignored (nohup), here and in the job.
func CatchSignals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 64) // never blocks; a scheduler sends a few in a row
	for _, s := range handled() {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	// Caught and never looked at, rather than ignored: an ignored signal would
	// stay ignored in the job.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, unix.SIGPIPE)
	return c, func() { signal.Stop(c); signal.Stop(pipe) }
}

// mean decides what a signal asks for. A CONT is noise that schedulers send
// before a warning, unless the job was stopped through us.
func (m *monitor) mean(s syscall.Signal) meaning {
	switch {
	case slices.Contains(m.leaveOn, s):
		return meansLeave
	case s == unix.SIGCONT && m.stopped:
		return meansForward
	case slices.Contains(m.job.Ignore, s):
		return meansNothing
	case s == unix.SIGTSTP:
		return meansStop
	}
	return meansForward
}

// spread are the signals that mean "leave" and that reach the program as well.
func (m *monitor) spread() []syscall.Signal {
	return slices.DeleteFunc(slices.Clone(m.job.Spread), func(s syscall.Signal) bool { return !slices.Contains(m.leaveOn, s) })
}

// killedBy tells whether an exit status is that of a death by a leave signal.
func (m *monitor) killedBy(status int) bool {
	return status > 128 && slices.Contains(m.leaveOn, syscall.Signal(status-128))
}

// stopWithShell stops the job and the monitor where a shell looks after them, so
// that the shell gets its terminal back. Elsewhere nobody would wake us. The job
// is in a session of its own, where TSTP stops nobody (setpgid(2), orphaned
// process groups): it only is a warning.
func (m *monitor) stopWithShell() {
	if !m.cfg.terminal() {
		return
	}
	time.Sleep(stopWarning)
	_ = m.proc.Signal(unix.SIGSTOP)
	m.cfg.stopSelf()
}

// stopWarning is the time between TSTP, which a program may catch, and STOP.
const stopWarning = 50 * time.Millisecond

func hasTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	tty.Close()
	return true
}

func stopSelf() { _ = unix.Kill(unix.Getpid(), unix.SIGSTOP) }

// ParseSignals understands a list such as TERM,SIGUSR1,15; "none" is an empty
// list.
func ParseSignals(list string) ([]syscall.Signal, error) {
	signals := []syscall.Signal{}
	if list == "none" {
		return signals, nil
	}
	for _, name := range strings.Split(list, ",") {
		s, err := parseSignal(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		signals = append(signals, s)
	}
	return signals, nil
}

func parseSignal(name string) (syscall.Signal, error) {
	s := syscall.Signal(0)
	if n, err := strconv.Atoi(name); err == nil {
		s = syscall.Signal(n)
	} else {
		name = strings.ToUpper(name)
		s = unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	}
	if s == 0 {
		return 0, Fail(ExitUsage, "", "signal %q is not known", name)
	}
	if !slices.Contains(handled(), os.Signal(s)) {
		return 0, Fail(ExitUsage, "", "signal %s cannot mean \"leave\": it cannot be caught", name)
	}
	return s, nil
}

// signalName is how people write a signal: TERM.
func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(s))
}
