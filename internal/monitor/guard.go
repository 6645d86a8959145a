// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"fmt"
	"time"

	"github.com/esky-hpc/esky/internal/store"
)

const (
	// mostIdleResumes is how many resumes of one generation may achieve nothing
	// before the job is held.
	mostIdleResumes = 5
	// realWork is the CPU time that counts as having achieved something.
	realWork = time.Second
)

// stuck counts a resume of a generation and tells, by a reason, whether the job
// gets nowhere: an image that cannot live here would otherwise be requeued for
// ever. before is what to record again if the resume comes to nothing.
func (m *monitor) stuck(generation uint32) (before store.Progress, reason string, err error) {
	p, err := m.store.Progress()
	if err != nil {
		return p, "", err
	}
	next := store.Progress{Generation: generation, Count: 1}
	if p.Generation == generation && p.CPU < realWork {
		next.Count = p.Count + 1
	}
	if next.Count > mostIdleResumes {
		return p, fmt.Sprintf("%d resumes of image %d have brought no new image and no CPU time: %s is held",
			p.Count, generation, m.key), nil
	}
	return p, "", m.store.SetProgress(next)
}

// noteWork records that this incarnation has done something. It is called once
// a while after a resume and when the job ends unsaved; not more, for it costs
// an fsync.
func (m *monitor) noteWork(used time.Duration) {
	m.noting.Lock() // the two occasions may come together
	defer m.noting.Unlock()
	p, err := m.store.Progress()
	if err != nil || p.Generation == 0 || p.CPU >= min(used, realWork) {
		return
	}
	p.CPU = used
	_ = m.store.SetProgress(p) // at worst this resume does not count as useful
}
