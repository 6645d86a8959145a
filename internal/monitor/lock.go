// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

// acquire makes sure that nobody else runs the job. One who is about to leave
// is waited for: a scheduler may start the next incarnation while the last one
// is being killed. A job on this host whose monitor has died is taken over.
func (m *monitor) acquire() error {
	deadline := time.Now().Add(m.cfg.patience.lock)
	for tries := 0; ; tries++ {
		got, err := m.tryAcquire()
		if got || err != nil {
			return err
		}
		if tries == 0 {
			// A command that asks whether the job runs holds the lock for a moment.
			if err := m.pause(m.cfg.patience.lockStep / 5); err != nil {
				return err
			}
			continue
		}
		who := m.heldBy()
		if time.Now().After(deadline) {
			return Fail(ExitAgain, "wait until it has ended, or end it there", "%s is already running: %s", m.key, who)
		}
		if tries == 1 {
			m.note(Event{Event: "waiting", Text: fmt.Sprintf("%s is already running: %s; waiting %s for it to end", m.key, who, m.cfg.patience.lock)})
		}
		if err := m.pause(m.cfg.patience.lockStep); err != nil {
			return err
		}
	}
}

// pause waits; a signal to leave or to end ends the waiting.
func (m *monitor) pause(d time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return m.during(func() error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, cancel)
}

func (m *monitor) tryAcquire() (bool, error) {
	lock, err := m.store.TryLock()
	switch {
	case errors.Is(err, store.ErrLocked):
		return m.takeOver()
	case err != nil && Code(err) == ExitInternal:
		return false, Fail(ExitNotWritable, "choose another place with --store", "%w", err)
	case err != nil:
		return false, err
	}
	claimed, err := m.place.claim()
	if err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil // its monitor is just ending
		}
		return false, err
	}
	m.lock, m.claimed = lock, claimed
	return true, nil
}

// takeOver claims a job on this host that has lost its monitor. The job's init
// goes on holding the store's lock for us.
func (m *monitor) takeOver() (bool, error) {
	h, err := m.store.Holder()
	if err != nil || h == nil || !onThisHost(h) || h.InitPid == 0 || !runs(h.InitPid) || isMonitor(h.MonitorPid) {
		return false, nil // whoever it is, it is not ours to take
	}
	claimed, err := m.place.claim()
	if err != nil {
		return false, nil // its monitor lives
	}
	if m.cfg.Fresh {
		claimed.Close()
		return false, Fail(ExitAgain, "without --fresh it is taken over", "%s still runs here, as process %d, without a monitor", m.key, h.InitPid)
	}
	m.claimed, m.orphan = claimed, h
	return true, nil
}

func (m *monitor) heldBy() string {
	h, err := m.store.Holder()
	if err != nil || h == nil {
		return "nobody knows where"
	}
	return Whereabouts(h)
}

// Whereabouts says where a holder is, for people.
func Whereabouts(h *store.Holder) string {
	text := fmt.Sprintf("on %s, process %d", h.Host, h.MonitorPid)
	if h.JobID != "" {
		text += fmt.Sprintf(", %s job %s", h.Scheduler, h.JobID)
	}
	return text + ", since " + h.Started.Format(time.DateTime)
}

// onThisHost tells whether the pids of a holder mean anything here.
func onThisHost(h *store.Holder) bool {
	return h.Host == hostname() && (h.BootID == "" || h.BootID == bootID())
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func runs(pid int) bool { return pid > 0 && unix.Kill(pid, 0) == nil }

// isMonitor tells whether a process is a living esky-wrap: a pid may have been
// given to another program since. It matters where the monitor's lock cannot
// be seen, with a /tmp for each job.
func isMonitor(pid int) bool {
	if !runs(pid) || pid == os.Getpid() {
		return false
	}
	mine, err1 := os.ReadFile("/proc/self/comm")
	its, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err1 == nil && err2 == nil && string(mine) == string(its)
}

// holder describes this monitor, for status and for other commands.
func (m *monitor) holder() store.Holder {
	h := store.Holder{
		Token: m.token, Host: hostname(), BootID: bootID(),
		Scheduler: m.job.Scheduler, JobID: m.job.ID, Attempt: m.job.Attempt,
		MonitorPid: os.Getpid(), Socket: m.place.socket, Started: m.started, End: m.job.End,
		Command: m.command,
	}
	if m.proc != nil {
		h.InitPid = m.proc.InitPid()
	}
	if m.near != nil {
		h.Local = m.near.Dir()
	}
	return h
}
