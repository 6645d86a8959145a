// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"sync"
)

// Jobs are the jobs that a provider knows in this process. Those that earlier
// processes have started become known by Recover.
type Jobs[J interface{ Gone() <-chan struct{} }] struct {
	Provider string // in all handles
	Version  int    // of their Data

	mu  sync.Mutex
	all map[int]J // by Handle.Pid
}

// Add makes a job known.
func (s *Jobs[J]) Add(pid int, j J) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[int]J{}
	}
	s.all[pid] = j
}

// Find is the job of a handle, also one that has ended. Kind NotFound: it has to be
// recovered first.
func (s *Jobs[J]) Find(h Handle) (J, error) {
	var none J
	if h.Provider != s.Provider {
		return none, Errorf(Usage, "", "the job of process %d is one of the provider %q", h.Pid, h.Provider)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, known := s.all[h.Pid]; known {
		return j, nil
	}
	return none, Errorf(NotFound, "recover it first", "the job of process %d is not known", h.Pid)
}

// Running is Find, with kind Ended for a job that has ended.
func (s *Jobs[J]) Running(h Handle) (J, error) {
	j, err := s.Find(h)
	if err == nil && isClosed(j.Gone()) {
		err = Errorf(Ended, "", "the job has ended")
	}
	return j, err
}

// Idle tells whether no job runs.
func (s *Jobs[J]) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.all {
		if !isClosed(j.Gone()) {
			return false
		}
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Read reads the JSON that a handle has in Data.
func (s *Jobs[J]) Read(h Handle, data any) error {
	if h.Provider != s.Provider || h.Version != s.Version {
		return Errorf(Usage, "use the version that made it", "a handle of provider %q, version %d, is not known to %s, version %d", h.Provider, h.Version, s.Provider, s.Version)
	}
	if err := json.Unmarshal(h.Data, data); err != nil {
		return Errorf(Usage, "", "read the handle of process %d: %v", h.Pid, err)
	}
	return nil
}
