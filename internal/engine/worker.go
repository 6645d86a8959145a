// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/dump"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/restore"
	"github.com/esky-hpc/esky/internal/store"
)

// The hidden verbs of the worker processes.
const (
	dumpVerb    = "__dump"
	restoreVerb = "__restore"
)

// WorkerMain runs the worker that the arguments name, and then does not return.
// It returns false for the arguments of anything else. main calls it first.
func WorkerMain(args []string) (handled bool) {
	if len(args) < 2 {
		return false
	}
	switch args[1] {
	case namespace.Verb:
		namespace.InitMain()
	case dumpVerb:
		work(dumpJob)
	case restoreVerb:
		work(restoreJob)
	default:
		return false
	}
	return true
}

// Descriptors of a worker: requests come in, events go out, by gob: the paths
// in them may be any bytes.
const (
	requestFD = 3
	eventFD   = 4
)

// event is what a worker tells the monitor.
type event struct {
	Progress *Progress
	Dumped   *dump.Result
	Restored *restore.Result
	Failure  *failure
}

// failure is an error on its way from a worker to the monitor.
type failure struct {
	Kind    string
	Text    string
	Reasons []string
	Dir     string
	Errno   syscall.Errno
}

// channel is a worker's end of the connection.
type channel struct {
	requests *gob.Decoder
	events   *gob.Encoder
	mu       sync.Mutex // progress comes from several goroutines
}

func (c *channel) send(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.events.Encode(e) // a monitor that is dead needs no news
}

func (c *channel) progress(phase string, done, total int64) {
	c.send(event{Progress: &Progress{phase, done, total}})
}

// forMonitor are the signals that a scheduler sends to all processes in sight: the
// monitor acts on them.
var forMonitor = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGXCPU, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
}

// startDeaf starts a program with these signals blocked: else one could end it before
// it has come to ignore them.
func startDeaf(cmd *exec.Cmd) error {
	runtime.LockOSThread() // whose mask the program inherits
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	for _, s := range forMonitor {
		block.Val[0] |= 1 << (s.(syscall.Signal) - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return cmd.Start()
}

// work runs a worker's job on a locked thread: the kernel ties tracees to it.
func work(job func(*channel) error) {
	runtime.LockOSThread()
	signal.Ignore(forMonitor...)
	c := &channel{
		requests: gob.NewDecoder(os.NewFile(requestFD, "requests")),
		events:   gob.NewEncoder(os.NewFile(eventFD, "events")),
	}
	if err := job(c); err != nil {
		c.send(event{Failure: failureOf(err)})
		os.Exit(1)
	}
	os.Exit(0)
}

// failureOf packs an error.
func failureOf(err error) *failure {
	f := &failure{Kind: "internal", Text: err.Error()}
	var refused *dump.RefusedError
	var busy *freeze.BusyError
	var leader *freeze.LeaderError
	var vfork *freeze.VforkError
	var traced *freeze.TracedError
	var damaged *image.DamagedError
	var changed *restore.ChangedError
	var taken *restore.TakenError
	var numbers *restore.NumbersError
	switch {
	case errors.As(err, &refused):
		f.Kind, f.Reasons = "refused", refused.Reasons
	case errors.As(err, &busy):
		f.Kind, f.Reasons = "refused", []string{busy.Error()}
	case errors.As(err, &leader):
		f.Kind, f.Reasons = "refused", []string{leader.Error()}
	case errors.As(err, &vfork):
		f.Kind, f.Reasons = "refused", []string{vfork.Error()}
	case errors.As(err, &traced):
		f.Kind, f.Reasons = "refused", []string{traced.Error()}
	case errors.Is(err, freeze.ErrEnded):
		f.Kind = "ended"
	case errors.As(err, &damaged):
		f.Kind, f.Dir, f.Text = "damaged", damaged.Dir, damaged.What
	case errors.As(err, &changed):
		f.Kind, f.Reasons = "changed", changed.Reasons
	case errors.As(err, &taken):
		f.Kind, f.Reasons = "taken", taken.Reasons
	case errors.As(err, &numbers):
		f.Kind, f.Text = "numbers", numbers.Error()
	case errors.As(err, &f.Errno) && isWriteErrno(f.Errno):
		f.Kind = "write"
	}
	return f
}

// isWriteErrno knows the errors of storage that is full or not to be written.
func isWriteErrno(e syscall.Errno) bool {
	switch e {
	case unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EFBIG, unix.EIO:
		return true
	}
	return false
}

// unpack is the reverse of failureOf.
func (f *failure) unpack(dir string) error {
	switch f.Kind {
	case "refused":
		return &RefusedError{f.Reasons}
	case "ended":
		return &JobEndedError{}
	case "damaged":
		return &image.DamagedError{Dir: f.Dir, What: f.Text}
	case "changed":
		return &ChangedError{f.Reasons}
	case "taken":
		return &TakenError{f.Reasons}
	case "numbers":
		return &MismatchError{[]host.Mismatch{{What: "shim mode", Want: "its process numbers", Have: f.Text}}}
	case "write":
		return store.WriteError(dir, f.Errno)
	}
	return errors.New(f.Text)
}

// worker is a running worker, seen by the monitor.
type worker struct {
	cmd      *exec.Cmd
	requests *gob.Encoder
	control  *os.File
	events   *gob.Decoder
}

// startWorker starts one. It has a session of its own, so that no signal to the
// monitor's group or terminal reaches it in the middle of its work.
func startWorker(verb string, request any) (*worker, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, err
	}
	defer outW.Close()
	cmd := exec.Command("/proc/self/exe", verb)
	cmd.Args[0] = "esky-worker"
	cmd.Env = []string{} // nothing of the job's, not its LD_PRELOAD
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{inR, outW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startDeaf(cmd); err != nil {
		inW.Close()
		outR.Close()
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	w := &worker{cmd: cmd, requests: gob.NewEncoder(inW), control: inW, events: gob.NewDecoder(outR)}
	if err := w.requests.Encode(request); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	return w, nil
}

// next returns the worker's next event that is not progress.
func (w *worker) next(progress func(Progress)) (event, error) {
	for {
		var e event
		if err := w.events.Decode(&e); err != nil {
			return e, fmt.Errorf("the worker ended unexpectedly: %w", err)
		}
		if e.Progress == nil {
			return e, nil
		}
		if progress != nil {
			progress(*e.Progress)
		}
	}
}

// end waits for the worker's end.
func (w *worker) end() error {
	w.control.Close()
	return w.cmd.Wait()
}
