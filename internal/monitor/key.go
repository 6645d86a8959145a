// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"time"

	"github.com/esky-hpc/esky/internal/store"
)

// A script may run one command line several times, also at the same time. Whoever
// chooses its key keeps a lock until others can see that this attempt of the
// scheduler's job has started it.

// chooseKey finds the name of this command in the store.
func (m *monitor) chooseKey() error {
	m.key = m.job.Key
	if m.job.Sole || m.job.ID == "" {
		return nil
	}
	s, err := store.Open(m.cfg.Store, m.job.Key)
	if err != nil {
		return notWritable(err)
	}
	// The other may itself wait for as long for a last incarnation to end.
	for end := time.Now().Add(2 * m.cfg.patience.lock); ; {
		m.keys, err = s.TryLockKeys()
		if !errors.Is(err, store.ErrLocked) {
			break
		}
		if time.Now().After(end) {
			return Fail(ExitAgain, "give each of them a --name", "another run of this command line has been about to begin for %s", 2*m.cfg.patience.lock)
		}
		if err := m.pause(m.cfg.patience.lockStep / 5); err != nil {
			return err
		}
	}
	if err != nil {
		return notWritable(err)
	}
	m.key = m.job.Pick(m.startedIn)
	return nil
}

// keyIsChosen lets the next one choose.
func (m *monitor) keyIsChosen() {
	if m.keys != nil {
		m.keys.Close()
		m.keys = nil
	}
}

// startedIn tells in which attempt of the scheduler's job a key was last started.
func (m *monitor) startedIn(key string) (attempt int, ok bool) {
	s, err := store.Existing(m.cfg.Store, key)
	if err != nil {
		return 0, false
	}
	h, err := s.Holder()
	if err != nil || h == nil {
		return 0, false
	}
	return h.Attempt, true
}

// comePast records that this attempt of the scheduler's job has met a finished
// command, so that Pick gives the next run of the same line the next key and
// not this one's result.
func (m *monitor) comePast() error {
	h, err := m.store.Holder()
	if err != nil || h == nil || m.job.ID == "" {
		return err
	}
	h.Attempt = m.job.Attempt
	return m.store.SetHolder(*h)
}
