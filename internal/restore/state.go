// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// setState gives the processes everything but their registers. Zombies end and
// stopped processes stop first, so that what their parents are told of it can be
// taken back before they get their own pending signals.
func (r *restorer) setState() error {
	for _, step := range []func(*proc) error{r.setDescriptors, r.setProcess, r.setThreads, r.setLimits} {
		for _, p := range r.live() {
			if err := step(p); err != nil {
				return fmt.Errorf("pid %d (%s): %w", p.pb.Pid, p.pb.Comm, err)
			}
		}
	}
	for _, p := range r.procs {
		if p.pb.State == imagepb.Process_ZOMBIE {
			if err := p.endAsZombie(); err != nil {
				return fmt.Errorf("pid %d (a zombie): %w", p.pb.Pid, err)
			}
		}
	}
	var stopped []*proc
	for _, p := range r.live() {
		switch {
		case p.pb.State == imagepb.Process_STOPPED:
			stopped = append(stopped, p)
			if err := p.stop(stopSignal(p.pb)); err != nil {
				return fmt.Errorf("pid %d: stop: %w", p.pb.Pid, err)
			}
		case p.pb.Continued:
			if err := p.goOn(); err != nil {
				return fmt.Errorf("pid %d: stop and continue: %w", p.pb.Pid, err)
			}
		}
	}
	for _, p := range r.live() {
		if err := p.setSignals(stopped); err != nil {
			return fmt.Errorf("pid %d (%s): signals: %w", p.pb.Pid, p.pb.Comm, err)
		}
	}
	for _, p := range r.live() {
		if err := r.setTimers(p); err != nil {
			return fmt.Errorf("pid %d (%s): timers: %w", p.pb.Pid, p.pb.Comm, err)
		}
	}
	return nil
}

// setProcess sets what belongs to a whole process.
func (r *restorer) setProcess(p *proc) error {
	pb, s := p.pb, p.script()
	if err := r.chdir(s, pb.Cwd, pb.CwdRemoved); err != nil {
		return err
	}
	s.add("umask", unix.SYS_UMASK, uint64(pb.Umask))
	s.add("personality", unix.SYS_PERSONALITY, uint64(pb.Personality))
	if pb.ChildSubreaper {
		s.add("child subreaper", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	}
	if pb.ThpDisable {
		s.add("huge pages", unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1)
	}
	if p.mainEnded() {
		s.add("name", unix.SYS_PRCTL, unix.PR_SET_NAME, s.string(pb.Comm))
	}
	r.mergeMemory(p)
	askExtended(s, pb)
	return r.advise(p, s)
}

// setThreads sets what belongs to each thread, last of all its powers: it has
// had the capabilities of the namespace until now.
func (r *restorer) setThreads(p *proc) error {
	for i, t := range p.threads {
		pb := p.pb.Threads[i]
		s := t.script()
		if pb.Fs != nil {
			if err := r.chdir(s, pb.Fs.Cwd, pb.Fs.CwdRemoved); err != nil {
				return err
			}
			s.add("umask", unix.SYS_UMASK, uint64(pb.Fs.Umask))
		}
		s.add("set_tid_address", unix.SYS_SET_TID_ADDRESS, pb.ClearChildTid)
		s.add("thread name", unix.SYS_PRCTL, unix.PR_SET_NAME, s.string(pb.Comm))
		if pb.AltstackFlags&ssDisable == 0 || pb.AltstackFlags&ssAutodisarm != 0 {
			// SS_ONSTACK is what the kernel works out from the stack pointer.
			s.add("sigaltstack", unix.SYS_SIGALTSTACK, s.words(pb.AltstackSp, uint64(pb.AltstackFlags&^ssOnstack), pb.AltstackSize), 0)
		}
		if pb.RobustList != 0 {
			s.add("set_robust_list", unix.SYS_SET_ROBUST_LIST, pb.RobustList, pb.RobustListLen)
		}
		if pb.RseqPtr != 0 {
			s.add("rseq", unix.SYS_RSEQ, pb.RseqPtr, uint64(pb.RseqSize), 0, uint64(pb.RseqSig))
		}
		s.add("timer slack", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, pb.TimerslackNs)
		if pb.NoNewPrivs {
			s.add("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}
		if os.Geteuid() != 0 {
			s.add("drop ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
			s.add("drop capabilities", unix.SYS_CAPSET, s.words(capabilityVersion3), s.words(0, 0, 0))
		}
		// Changing credentials resets this one (prctl(2)).
		if pb.Pdeathsig != 0 {
			s.add("parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uint64(pb.Pdeathsig))
		}
		if p.pb.KeepCaps {
			s.add("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
		}
		if i == len(p.threads)-1 {
			denyWriteExec(s, p.pb)
			s.add("dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, uint64(min(p.pb.Dumpable, 1)))
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("thread %d: %w", pb.Tid, err)
		}
	}
	return nil
}

const (
	ssOnstack          = 1
	ssDisable          = 2
	ssAutodisarm       = 1 << 31
	capabilityVersion3 = 0x20080522
)

// setLimits sets from outside what may be set so. Where this host grants less,
// the job gets less and is told.
func (r *restorer) setLimits(p *proc) error {
	for i, lim := range p.pb.Rlimits {
		if err := r.setRlimit(p, i, lim); err != nil {
			return err
		}
	}
	score := []byte(strconv.Itoa(int(p.pb.OomScoreAdj)))
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.host), score, 0) // may only be raised
	for i, t := range p.threads {
		r.setScheduling(p, t.host, p.pb.Threads[i])
	}
	return nil
}

func (r *restorer) setRlimit(p *proc, i int, lim *imagepb.Rlimit) error {
	want := unix.Rlimit{Cur: lim.Soft, Max: lim.Hard}
	err := unix.Prlimit(p.host, i, &want, nil)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	var have unix.Rlimit
	if err := unix.Prlimit(p.host, i, nil, &have); err != nil {
		return err
	}
	want.Max = have.Max
	want.Cur = min(want.Cur, want.Max)
	if want.Cur < lim.Soft {
		r.note("pid %d: resource limit %d is %d on this host, it was %d", p.pb.Pid, i, want.Cur, lim.Soft)
	}
	return unix.Prlimit(p.host, i, &want, nil)
}

func (r *restorer) setScheduling(p *proc, host int, t *imagepb.Thread) {
	fail := func(what string, err error) {
		if err != nil {
			r.note("pid %d: thread %d: %s: %v", p.pb.Pid, t.Tid, what, err)
		}
	}
	if t.Policy != 0 || t.SchedFlags != 0 || t.SchedRuntimeNs != 0 {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: t.Policy, Priority: t.RtPriority, Nice: t.Nice,
			Flags: t.SchedFlags, Runtime: t.SchedRuntimeNs}
		fail("scheduling policy", unix.SchedSetAttr(host, &attr, 0))
	}
	if t.Nice != 0 { // also beside SCHED_IDLE, of which sched_setattr(2) takes none
		fail("nice", unix.Setpriority(unix.PRIO_PROCESS, host, int(t.Nice)))
	}
	if len(t.Affinity) > 0 {
		fail("affinity", setAffinity(host, t.Affinity))
	}
	if t.Ioprio != 0 {
		const whoProcess = 1
		if _, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(host), uintptr(t.Ioprio)); errno != 0 {
			fail("I/O priority", errno)
		}
	}
}

// setAffinity keeps to the CPUs that both the thread asked for and this host
// grants; the kernel takes the intersection, and an empty one is no affinity.
func setAffinity(host int, cpus []uint32) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(int(c))
	}
	err := unix.SchedSetaffinity(host, &set)
	if errors.Is(err, unix.EINVAL) {
		return errors.New("none of its CPUs is granted here; it runs on any")
	}
	return err
}
