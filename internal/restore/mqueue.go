// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// queueName is the name under which a queue is made: one that was removed gets
// another until it is open.
func (r *restorer) queueName(i uint32) string {
	if q := r.meta.PosixQueues[i]; !q.Unlinked {
		return q.Name
	}
	return fmt.Sprintf(".esky.%d", i)
}

// openPosixQueues makes the queues of mq_overview(7) and fills them.
func (r *restorer) openPosixQueues() error {
	if len(r.meta.PosixQueues) == 0 {
		return nil
	}
	if err := r.raiseQueueLimit(); err != nil {
		return err
	}
	for i, q := range r.meta.PosixQueues {
		if err := r.openPosixQueue(uint32(i), q); err != nil {
			return fmt.Errorf("message queue /%s: %w", q.Name, err)
		}
	}
	return nil
}

// raiseQueueLimit lets the seed make what the job had made with a limit that
// the seed does not have yet.
func (r *restorer) raiseQueueLimit() error {
	const rlimitMsgqueue = 12
	var have unix.Rlimit
	if err := unix.Prlimit(r.seed.pid, rlimitMsgqueue, nil, &have); err != nil {
		return err
	}
	have.Cur = have.Max
	return unix.Prlimit(r.seed.pid, rlimitMsgqueue, &have, nil)
}

func (r *restorer) openPosixQueue(i uint32, q *imagepb.PosixQueue) error {
	s := r.seed.script()
	s.add("mq_open", unix.SYS_MQ_OPEN, s.string(r.queueName(i)), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NONBLOCK, 0o600,
		s.words(0, uint64(q.MaxMessages), uint64(q.MaxSize), 0))
	for n, m := range q.Messages {
		if err := s.do(); err != nil { // each may take much of the room
			return err
		}
		s.add(fmt.Sprintf("send message %d again", n), unix.SYS_MQ_TIMEDSEND, first, s.bytes(m.Text), uint64(len(m.Text)), uint64(m.Priority), 0)
	}
	s.add("fchmod", unix.SYS_FCHMOD, first, uint64(q.Mode))
	s.add("close", unix.SYS_CLOSE, first)
	return s.do()
}

// openQueueFile opens one description of a queue. Its mode may forbid that by
// now, but not to the seed.
func (r *restorer) openQueueFile(s *script, f *imagepb.OpenFile, at uint64) {
	flags := uint64(f.Flags) & (unix.O_ACCMODE | unix.O_NONBLOCK)
	s.add("mq_open", unix.SYS_MQ_OPEN, s.string(r.queueName(f.PosixQueue)), flags, 0, 0)
	s.put(at)
}

// unlinkQueues takes the names away from the queues that had none.
func (r *restorer) unlinkQueues() error {
	s := r.seed.script()
	for i, q := range r.meta.PosixQueues {
		if q.Unlinked {
			s.add("mq_unlink", unix.SYS_MQ_UNLINK, s.string(r.queueName(uint32(i))))
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
	}
	return s.do()
}
