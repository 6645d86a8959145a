// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// readThreads reads the registers and masks of all threads, and blocks all
// signals but SIGTRAP in them: the stub ends with a breakpoint, and the kernel
// resets the action of a SIGTRAP that is blocked (force_sig_info).
func (j *Job) readThreads(known []Sleeper) error {
	for _, p := range j.Processes {
		for _, t := range p.Threads {
			if err := j.readThread(t, known); err != nil {
				return fmt.Errorf("pid %d: %w", p.Pid, err)
			}
		}
	}
	return nil
}

const allButTrap = ^uint64(1 << (5 - 1))

func (j *Job) readThread(t *Thread, known []Sleeper) error {
	if err := j.readState(t, known); err != nil {
		return err
	}
	if err := t.leaveRseq(); err != nil {
		return err
	}
	return tracee.SetSigmask(t.HostTid, allButTrap)
}

// readState reads what thaw gives back.
func (j *Job) readState(t *Thread, known []Sleeper) error {
	status, err := procfs.ReadStatus(t.foreign, t.HostTid)
	if err != nil {
		return err
	}
	t.Status = status
	t.Raw = status.NSpid[len(status.NSpid)-1]
	t.Tid = ids.Virtual(t.Raw)
	if t.Regs, err = tracee.GetRegs(t.HostTid); err != nil {
		return err
	}
	if t.Sigmask, err = tracee.Sigmask(t.HostTid); err != nil {
		return err
	}
	t.read = true
	j.interrupted(t, deliverable(&status, t.Sigmask), known)
	return nil
}

// byDefaultIgnored are the signals that do nothing without a handler (signal(7)).
const byDefaultIgnored = uint64(1<<(unix.SIGCHLD-1) | 1<<(unix.SIGCONT-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1))

// deliverable says that a signal waits that the thread is to get and notice. The
// kernel queues for a tracee also those that it ignores.
func deliverable(s *procfs.Status, mask uint64) bool {
	ignored := s.SigIgn | byDefaultIgnored&^s.SigCgt
	return (s.SigPnd|s.ShdPnd)&^mask&^ignored != 0
}

// leaveRseq moves a thread that is inside a restartable sequence to its abort
// handler, as the kernel does whenever it preempts one (rseq(2)). It would not
// do so later: the stub's own system calls make it forget the sequence.
func (t *Thread) leaveRseq() error {
	conf, err := tracee.RseqConfig(t.HostTid)
	if err != nil || conf.Ptr == 0 {
		return err
	}
	const csOffset = 8 // struct rseq: cpu_id_start, cpu_id, rseq_cs
	area := make([]byte, 8)
	if err := tracee.ReadMemory(t.HostTid, conf.Ptr+csOffset, area); err != nil {
		return err
	}
	cs := binary.LittleEndian.Uint64(area)
	if cs == 0 {
		return nil
	}
	section := make([]byte, 32) // struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip
	if err := tracee.ReadMemory(t.HostTid, cs, section); err != nil {
		return err
	}
	start := binary.LittleEndian.Uint64(section[8:])
	length := binary.LittleEndian.Uint64(section[16:])
	if t.Regs.IP()-start < length {
		t.Regs.SetIP(binary.LittleEndian.Uint64(section[24:]))
	}
	return nil
}
