// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
)

// queueTraps queues the SIGTRAPs that were pending. They come last, when no batch
// with its breakpoint follows: until then SIGTRAP must not be blocked, and would
// be delivered.
func (p *proc) queueTraps() error {
	queue := func(t *task, infos []*imagepb.Siginfo, nr uintptr, target ...uint64) error {
		for _, info := range infos {
			if signalOf(info) != uint64(unix.SIGTRAP) {
				continue
			}
			s := t.script()
			at := s.bytes(info.Raw)
			if err := tracee.WriteMemory(t.pid, s.dataAt(), s.data); err != nil {
				return err
			}
			if err := tracee.SetSigmask(t.host, ^uint64(0)); err != nil {
				return err
			}
			call := tracee.Sys("queue SIGTRAP", nr, append(target, uint64(unix.SIGTRAP), at)...)
			if err := tracee.SyscallAt(t.host, p.insn, t.regs, call); err != nil {
				return err
			}
			if err := tracee.Settle(t.host); err != nil {
				return err
			}
		}
		return nil
	}
	for i, t := range p.threads {
		pb := p.pb.Threads[i]
		if err := queue(t, pb.Pending, unix.SYS_RT_TGSIGQUEUEINFO, real(int(p.pb.Pid)), real(int(pb.Tid))); err != nil {
			return err
		}
	}
	return queue(p.task, p.pb.Pending, unix.SYS_RT_SIGQUEUEINFO, real(int(p.pb.Pid)))
}
