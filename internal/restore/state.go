// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
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
		if p.pb.State == imagepb.Process_STOPPED {
			stopped = append(stopped, p)
			if err := p.stop(); err != nil {
				return fmt.Errorf("pid %d: stop: %w", p.pb.Pid, err)
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

// setDescriptors moves the process's descriptors from the stage to their
// places; then locks and epoll items, which belong to the final numbers.
func (r *restorer) setDescriptors(p *proc) error {
	s := p.script()
	if int(p.pb.Pid) == r.sealer() {
		r.sealObjects(s)
	}
	used := map[int32]bool{}
	for _, fd := range p.pb.Fds {
		used[fd.Number] = true
		if r.meta.OpenFiles[fd.OpenFile].Kind == imagepb.OpenFile_PIDFD {
			continue
		}
		flags := uint64(0)
		if fd.Cloexec {
			flags = unix.O_CLOEXEC
		}
		s.add("dup3", unix.SYS_DUP3, r.stageFile(fd.OpenFile), uint64(fd.Number), flags)
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	for fd := int32(0); fd < first; fd++ {
		if !used[fd] {
			s.add("close", unix.SYS_CLOSE, uint64(fd))
		}
	}
	s.add("close_range", unix.SYS_CLOSE_RANGE, uint64(r.plan.StageBase), math.MaxUint32, 0)
	if err := s.do(); err != nil {
		return err
	}
	if err := r.openPidfds(p); err != nil {
		return err
	}
	return r.setFileState(p)
}

// openPidfds opens the process's pidfds, each description once.
func (r *restorer) openPidfds(p *proc) error {
	at := map[uint32]uint64{}
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if f.Kind != imagepb.OpenFile_PIDFD {
			continue
		}
		s, number, flags := p.script(), uint64(fd.Number), uint64(0)
		if fd.Cloexec {
			flags = unix.O_CLOEXEC
		}
		if from, ok := at[fd.OpenFile]; ok {
			s.add("dup3", unix.SYS_DUP3, from, number, flags)
		} else {
			// PIDFD_NONBLOCK and PIDFD_THREAD are O_NONBLOCK and O_EXCL.
			open := s.add("pidfd_open", unix.SYS_PIDFD_OPEN, uint64(f.PidfdPid), uint64(f.Flags)&(unix.O_NONBLOCK|unix.O_EXCL))
			if err := s.do(); err != nil {
				return err
			}
			if got := uint64(open.Result); got != number {
				s.add("dup3", unix.SYS_DUP3, got, number, flags)
				s.add("close", unix.SYS_CLOSE, got)
			} else if !fd.Cloexec {
				s.add("fcntl", unix.SYS_FCNTL, number, unix.F_SETFD, 0)
			}
			at[fd.OpenFile] = number
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// sealer is the process that adds the seals: any that has the stage open.
func (r *restorer) sealer() int { return int(r.live()[0].pb.Pid) }

func (r *restorer) setFileState(p *proc) error {
	s := p.script()
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if f.Kind == imagepb.OpenFile_EPOLL && f.EpollPid == p.pb.Pid && r.once(fd.OpenFile) {
			for _, item := range f.Epoll {
				event := binary.LittleEndian.AppendUint32(nil, item.Events) // struct epoll_event is packed
				event = binary.LittleEndian.AppendUint64(event, item.Data)
				s.add("epoll_ctl", unix.SYS_EPOLL_CTL, uint64(fd.Number), unix.EPOLL_CTL_ADD, uint64(item.Fd), s.bytes(event))
				if err := s.doIfFull(); err != nil {
					return err
				}
			}
		}
		for _, l := range f.Locks {
			if l.Pid == p.pb.Pid {
				lock(s, fd.Number, l)
			}
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
	}
	return s.do()
}

// once is true the first time for each description.
func (r *restorer) once(file uint32) bool {
	if r.done == nil {
		r.done = map[uint32]bool{}
	}
	was := r.done[file]
	r.done[file] = true
	return !was
}

// lock takes a file lock again (flock(2), F_SETLK and F_OFD_SETLK of fcntl(2)).
func lock(s *script, fd int32, l *imagepb.FileLock) {
	if l.Kind == imagepb.FileLock_FLOCK {
		how := uint64(unix.LOCK_SH)
		if l.Exclusive {
			how = unix.LOCK_EX
		}
		s.add("flock", unix.SYS_FLOCK, uint64(fd), how|unix.LOCK_NB)
		return
	}
	kind := uint64(unix.F_RDLCK)
	if l.Exclusive {
		kind = unix.F_WRLCK
	}
	length := uint64(0) // to the end of the file, wherever that is
	if l.End >= 0 && l.End < math.MaxInt64 {
		length = uint64(l.End - l.Start + 1)
	}
	cmd := uint64(unix.F_SETLK)
	if l.Kind == imagepb.FileLock_OFD {
		cmd = unix.F_OFD_SETLK
	}
	// struct flock: short type, short whence, off_t start, len, pid_t pid
	s.add("lock", unix.SYS_FCNTL, uint64(fd), cmd, s.words(kind, uint64(l.Start), length, 0))
}

// setProcess sets what belongs to a whole process.
func (r *restorer) setProcess(p *proc) error {
	pb, s := p.pb, p.script()
	if pb.Cwd != "/" {
		s.add("chdir "+pb.Cwd, unix.SYS_CHDIR, s.string(pb.Cwd))
	}
	s.add("umask", unix.SYS_UMASK, uint64(pb.Umask))
	s.add("personality", unix.SYS_PERSONALITY, uint64(pb.Personality))
	if pb.ChildSubreaper {
		s.add("child subreaper", unix.SYS_PRCTL, unix.PR_SET_CHILD_SUBREAPER, 1)
	}
	if pb.ThpDisable {
		s.add("huge pages", unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1)
	}
	return p.adviseAndRun(s)
}

func (p *proc) adviseAndRun(s *script) error {
	if err := p.advise(s); err != nil {
		return err
	}
	return s.do()
}

// setThreads sets what belongs to each thread, last of all its powers: it has
// had the capabilities of the namespace until now.
func (r *restorer) setThreads(p *proc) error {
	for i, t := range p.threads {
		pb := p.pb.Threads[i]
		s := t.script()
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
		if i == len(p.threads)-1 {
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
	if t.Policy != 0 {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: t.Policy, Priority: t.RtPriority, Nice: t.Nice}
		fail("scheduling policy", unix.SchedSetAttr(host, &attr, 0))
	} else if t.Nice != 0 {
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

// endAsZombie ends a process with the status it had ended with.
func (p *proc) endAsZombie() error {
	s := p.script()
	s.add("close_range", unix.SYS_CLOSE_RANGE, 0, math.MaxUint32, 0)
	s.add("name", unix.SYS_PRCTL, unix.PR_SET_NAME, s.string(p.pb.Comm))
	if err := s.do(); err != nil {
		return err
	}
	ws := unix.WaitStatus(p.pb.ExitStatus)
	if ws.Signaled() {
		return p.dieOf(ws.Signal())
	}
	b := &tracee.Batch{
		Tid: p.host, Pid: p.pid, Base: p.regs, Records: p.stub + pageSize,
		Calls: []*tracee.Call{tracee.Sys("exit_group", unix.SYS_EXIT_GROUP, uint64(ws.ExitStatus()))},
	}
	if err := b.Start(p.stub); err != nil {
		return err
	}
	return awaitEnd(p.host)
}

// dieOf lets a signal kill the process, without a core file.
func (p *proc) dieOf(sig unix.Signal) error {
	none := unix.Rlimit{}
	if err := unix.Prlimit(p.host, unix.RLIMIT_CORE, &none, nil); err != nil {
		return err
	}
	// The job may have been started with the signal ignored (nohup).
	if sig != unix.SIGKILL {
		s := p.script()
		s.add("sigaction", unix.SYS_RT_SIGACTION, uint64(sig), s.words(0, 0, 0, 0), 0, sigsetSize)
		if err := s.do(); err != nil {
			return err
		}
	}
	if err := tracee.SetSigmask(p.host, 0); err != nil {
		return err
	}
	if err := unix.Kill(p.host, sig); err != nil {
		return err
	}
	return awaitEnd(p.host)
}

func awaitEnd(host int) error {
	for {
		if err := tracee.Cont(host, 0); err != nil && !errors.Is(err, tracee.ErrGone) {
			return err
		}
		s, err := tracee.Wait(host)
		if err != nil {
			return err
		}
		if s.Ended() {
			return nil
		}
		if s.Event() == 0 && s.Signal() != unix.SIGTRAP {
			if err := tracee.Cont(host, s.Signal()); err != nil && !errors.Is(err, tracee.ErrGone) {
				return err
			}
			if s, err = tracee.Wait(host); err != nil || s.Ended() {
				return err
			}
		}
	}
}

// stop puts a process into the group-stop it was in.
func (p *proc) stop() error {
	if err := unix.Kill(p.host, unix.SIGSTOP); err != nil {
		return err
	}
	for {
		if err := tracee.Cont(p.host, 0); err != nil {
			return err
		}
		s, err := tracee.Wait(p.host)
		if err != nil {
			return err
		}
		switch {
		case s.Event() == unix.PTRACE_EVENT_STOP:
			return nil
		case s.Event() == 0 && s.Signal() == unix.SIGSTOP:
			if err := tracee.Cont(p.host, unix.SIGSTOP); err != nil {
				return err
			}
			if s, err = tracee.Wait(p.host); err != nil {
				return err
			}
			if s.Event() == unix.PTRACE_EVENT_STOP {
				return nil
			}
			return fmt.Errorf("thread %d %s instead of stopping", p.host, s)
		case s.Ended():
			return fmt.Errorf("thread %d %s instead of stopping", p.host, s)
		}
	}
}
