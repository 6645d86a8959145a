// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

func TestSecondMonitorOfARunningJob(t *testing.T) {
	r := newRig(t)
	j := r.start()
	cfg := r.cfg
	cfg.Signals = make(chan os.Signal)
	_, err := Run(context.Background(), cfg)
	if Code(err) != ExitAgain || !strings.Contains(err.Error(), "already running: on "+hostname()) {
		t.Errorf("error %v", err)
	}
	if len(r.engine.attached) != 0 {
		t.Errorf("attached to %v", r.engine.attached)
	}
	r.checkpoint() // unharmed
	j.exit(0)
	r.want(0, "")
}

// orphan leaves a locked store behind, as a monitor that was killed does: the
// lock is held by an open file, which stands for that of the job's init.
func orphan(t *testing.T, r *rig, h store.Holder) {
	t.Helper()
	s, err := store.Open(r.cfg.Store, "fake-7")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := s.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if _, err := s.Take(h); err != nil {
		t.Fatal(err)
	}
}

func TestOrphanIsTakenOver(t *testing.T) {
	r := newRig(t)
	orphan(t, r, store.Holder{Host: hostname(), BootID: bootID(), MonitorPid: deadPid(t), InitPid: os.Getpid()})
	j := r.start()
	if !slices.Equal(r.engine.attached, []int{os.Getpid()}) {
		t.Errorf("attached to %v", r.engine.attached)
	}
	r.events.await("attached")
	r.checkpoint()
	j.exit(9)
	r.want(9, "")
}

func TestJobOnAnotherHostIsNotTakenOver(t *testing.T) {
	for name, h := range map[string]store.Holder{
		"another host":  {Host: "n17", MonitorPid: 1, InitPid: os.Getpid()},
		"another boot":  {Host: hostname(), BootID: "before", MonitorPid: deadPid(t), InitPid: os.Getpid()},
		"living":        {Host: hostname(), BootID: bootID(), MonitorPid: twin(t), InitPid: os.Getpid()},
		"no job yet":    {Host: hostname(), BootID: bootID(), MonitorPid: deadPid(t)},
		"job just gone": {Host: hostname(), BootID: bootID(), MonitorPid: deadPid(t), InitPid: deadPid(t)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			orphan(t, r, h)
			_, err := Run(context.Background(), r.cfg)
			if Code(err) != ExitAgain || !strings.Contains(err.Error(), "already running: on "+h.Host) {
				t.Errorf("error %v", err)
			}
			if len(r.engine.attached) != 0 {
				t.Errorf("attached to %v", r.engine.attached)
			}
		})
	}
}

func TestFreshDoesNotTakeOver(t *testing.T) {
	r := newRig(t)
	orphan(t, r, store.Holder{Host: hostname(), BootID: bootID(), MonitorPid: deadPid(t), InitPid: os.Getpid()})
	r.cfg.Fresh = true
	_, err := Run(context.Background(), r.cfg)
	if Code(err) != ExitAgain || !strings.Contains(err.Error(), "without a monitor") {
		t.Errorf("error %v", err)
	}
}

func TestSignalEndsTheWaitForTheLock(t *testing.T) {
	r := newRig(t)
	r.cfg.patience.lock = defaultPatience.lock
	orphan(t, r, store.Holder{Host: "n17", MonitorPid: 1, InitPid: 1})
	r.signals <- unix.SIGINT
	if status, err := Run(context.Background(), r.cfg); status != 130 || err != nil {
		t.Errorf("status %d, %v", status, err)
	}
}

// deadPid is the pid of a process that has ended and was reaped.
func deadPid(t *testing.T) int {
	t.Helper()
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return p.Pid
}

// twin is the pid of a living process with our name.
func twin(t *testing.T) int {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Its name is that of this binary, as a monitor's is esky-wrap; TestMain
	// makes it wait for the end of its input.
	p, err := os.StartProcess(self, []string{"twin"}, &os.ProcAttr{
		Env: append(os.Environ(), "ESKY_TEST_TWIN=1"), Files: []*os.File{r},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() {
		w.Close()
		_ = p.Signal(syscall.SIGKILL)
		_, _ = p.Wait()
	})
	return p.Pid
}
