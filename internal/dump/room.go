// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/esky-hpc/esky/internal/cgroup"
	"github.com/esky-hpc/esky/internal/procfs"
)

// A snapshot costs a job memory: in the worst case it writes to every page of its
// own while the snapshot lives, and each is there twice; shared memory is copied
// before. Batch systems limit the memory of a job, and who is over the limit is
// killed. A job that stands still while its memory is written costs next to nothing.

// workerNeeds is what this process takes to write an image.
const workerNeeds = 32 << 20

// snapshotCost is what a snapshot may cost for a mapping: its anonymous pages, less
// what others have in common with it, or all pages of memory that is copied; and
// page tables, 8 bytes a page.
func snapshotCost(m *procfs.Mapping) int64 {
	tables := int64(m.Rss / 512)
	switch {
	case m.Shared() && !m.Deleted || m.Rss == 0:
		return 0
	case m.Shared():
		return int64(m.Pss) + tables
	}
	return int64(float64(m.Anonymous)*float64(m.Pss)/float64(m.Rss)) + tables
}

// lookForRoom says why there is to be no snapshot, and refuses where there is not
// even room for ourselves.
func (d *Dump) lookForRoom() (noRoom error, err error) {
	pids, err := d.o.Tree.Members()
	if err != nil || len(pids) == 0 {
		return nil, err
	}
	room := cgroup.Room(pids[0])
	if room < workerNeeds {
		return nil, &RefusedError{Reasons: []string{fmt.Sprintf(
			"the job's memory limit leaves %s, and a checkpoint takes %s: give the job more memory",
			humanize.IBytes(uint64(room)), humanize.IBytes(workerNeeds))}}
	}
	if cost := d.before.cost + workerNeeds; room < cost && !d.o.Stop {
		return &noRoomError{pids[0], fmt.Errorf("the job's memory limit leaves %s, and a snapshot may take %s",
			humanize.IBytes(uint64(room)), humanize.IBytes(uint64(cost)))}, nil
	}
	return nil, nil
}

// still says that the job stands still until its memory is written.
func (d *Dump) still() bool { return d.o.Stop || d.noRoom != nil }
