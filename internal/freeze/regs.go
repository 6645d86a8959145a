// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"encoding/binary"
	"fmt"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// readThreads reads the registers and masks of all threads, and blocks all
// signals but SIGTRAP in them: the stub ends with a breakpoint, and the kernel
// resets the action of a SIGTRAP that is blocked (force_sig_info).
func (j *Job) readThreads(known []Sleeper) error {
	for _, p := range j.Processes {
		for _, t := range p.Threads {
			if err := j.readThread(p, t, known); err != nil {
				return fmt.Errorf("pid %d: %w", p.Pid, err)
			}
		}
	}
	return nil
}

const allButTrap = ^uint64(1 << (5 - 1))

func (j *Job) readThread(p *Process, t *Thread, known []Sleeper) error {
	status, err := procfs.ReadStatus(p.HostPid, t.HostTid)
	if err != nil {
		return err
	}
	t.Tid = status.NSpid[len(status.NSpid)-1]
	if t.Regs, err = tracee.GetRegs(t.HostTid); err != nil {
		return err
	}
	if t.Sigmask, err = tracee.Sigmask(t.HostTid); err != nil {
		return err
	}
	deliverable := (status.SigPnd|status.ShdPnd)&^t.Sigmask != 0
	j.interrupted(t, deliverable, known)
	if err := t.leaveRseq(); err != nil {
		return err
	}
	return tracee.SetSigmask(t.HostTid, allButTrap)
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
