// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/family"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// collect describes the frozen job.
func (d *Dump) collect() error {
	if err := d.admit(); err != nil {
		return err
	}
	d.filesOf, d.fsOf = firstOf(d.frozen.Live(), kcmpFiles), firstOf(d.frozen.Live(), kcmpFS)
	if err := d.findOwnPlaces(); err != nil {
		return err
	}
	for _, q := range d.procs {
		if err := q.openMemory(); err != nil {
			return err
		}
	}
	if err := d.collectClocks(); err != nil {
		return err
	}
	if err := d.collectIPC(); err != nil {
		return fmt.Errorf("look at the job's IPC objects: %w", err)
	}
	if err := d.collectFiles(); err != nil {
		return err
	}
	if err := d.collectProcesses(); err != nil {
		return err
	}
	if err := d.askCredentials(); err != nil {
		return err
	}
	if d.o.Tree.Adopted() {
		d.renameOutside()
	}
	if _, err := family.Arrange(d.meta.Processes); err != nil {
		return &RefusedError{Reasons: []string{err.Error()}}
	}
	for _, pb := range d.meta.Processes {
		pb.StopNoticed = slices.Contains(d.news.noticed, int(pb.Pid))
		pb.Continued = slices.Contains(d.news.continued, int(pb.Pid))
	}
	if err := d.collectJobFiles(); err != nil {
		return err
	}
	if err := d.viewSegments(); err != nil {
		return err
	}
	return d.collectShared()
}

// admit lists the frozen processes, and refuses those that cannot be carried.
func (d *Dump) admit() error {
	given, err := givenCPUs(d.o.Tree)
	if err != nil {
		return err
	}
	var refused, begins []string
	ours := homeOf(d.o.Tree)
	for _, p := range d.frozen.Live() {
		q := &process{Process: p, given: given, maps: d.maps[p.HostPid]}
		d.procs = append(d.procs, q)
		if !p.Leader().Regs.Is64Bit() {
			refused = append(refused, fmt.Sprintf("pid %d (%s) is a 32-bit program", p.Pid, p.Stat.Comm))
		}
		refused = append(refused, refuseProcess(d.o.Tree, ours, p.Eye, &p.Stat, &p.Status)...)
		refused = append(refused, refuseThreads(p)...)
		refused = append(refused, refuseMaps(p.Pid, p.Stat.Comm, q.maps)...)
		loading, err := q.loading()
		if err != nil {
			return err
		}
		if loading {
			begins = append(begins, fmt.Sprintf("pid %d (%s) has not begun yet with the program that it executes", p.Pid, p.Stat.Comm))
		}
	}
	refused = append(refused, refuseShared(d.frozen.Live())...)
	if len(refused) > 0 {
		return &RefusedError{Reasons: refused}
	}
	if len(begins) > 0 {
		return &RefusedError{Reasons: begins, passing: true}
	}
	return nil
}

func (d *Dump) collectProcesses() error {
	for _, p := range d.frozen.Processes {
		if p.Zombie {
			d.meta.Processes = append(d.meta.Processes, d.zombie(p))
		}
	}
	for _, q := range d.procs {
		pb, err := d.collectProcess(q)
		if err != nil {
			return fmt.Errorf("pid %d (%s): %w", q.Pid, q.Stat.Comm, err)
		}
		d.meta.Processes = append(d.meta.Processes, pb)
	}
	if refused := d.refuseDeathSignals(); len(refused) > 0 {
		return &RefusedError{Reasons: refused}
	}
	return nil
}

// refuseDeathSignals finds processes that want a signal when the thread that has
// made them ends (PR_SET_PDEATHSIG) and would get it at the resume, where a main
// thread that has ended makes them, and ends again.
func (d *Dump) refuseDeathSignals() []string {
	var refused []string
	for _, q := range d.procs {
		for _, child := range d.children(q) {
			if pb := d.processOf(&process{Process: child}); q.MainEnded() && pb.Threads[0].Pdeathsig != 0 {
				refused = append(refused, fmt.Sprintf("pid %d (%s) waits for the death (PR_SET_PDEATHSIG) of a parent whose main thread has ended (pthread_exit), which cannot be carried", child.Pid, child.Stat.Comm))
			}
		}
	}
	return refused
}

func (d *Dump) zombie(p *freeze.Process) *imagepb.Process {
	pb := d.identity(p)
	pb.State, pb.ExitStatus = imagepb.Process_ZOMBIE, int32(p.Stat.ExitCode)
	return pb
}

// identity is what even a zombie has, in the numbers of the job's namespace.
func (d *Dump) identity(p *freeze.Process) *imagepb.Process {
	pb := &imagepb.Process{Pid: int32(p.Pid), Comm: p.Stat.Comm, Ppid: 1}
	for _, other := range d.frozen.Processes {
		if other.HostPid == p.Stat.Ppid {
			pb.Ppid = int32(other.Pid)
		}
	}
	pb.Pgid, pb.Sid = int32(ids.Virtual(last(p.Status.NSpgid))), int32(ids.Virtual(last(p.Status.NSsid)))
	pb.RawPid = rawOf(p.Raw())
	return pb
}

func last(v []int) int {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)-1]
}

func (d *Dump) collectProcess(q *process) (*imagepb.Process, error) {
	pb := d.identity(q.Process)
	if q.MainEnded() {
		pb.ExitStatus = int32(q.Stat.ExitCode)
	}
	if q.Stopped != 0 {
		pb.State, pb.StopSignal = imagepb.Process_STOPPED, int32(q.Stopped)
	}
	// First of all its pending signals: a SIGSTOP among them is delivered as soon
	// as the process runs, in the stub too.
	if err := d.fromOutside(q, pb); err != nil {
		return nil, err
	}
	if err := q.openStub(); err != nil {
		return nil, fmt.Errorf("enter: %w", err)
	}
	pb.ShimBase = q.shim
	if q.shim != 0 {
		d.noteRequests(newShimState(q))
	}
	for _, step := range []func(*process, *imagepb.Process) error{
		d.fromInside, d.collectThreads, d.collectVmas, d.collectUndo,
	} {
		if err := step(q, pb); err != nil {
			return nil, err
		}
	}
	if err := q.askFutureLock(pb); err != nil {
		return nil, err
	}
	pb.Fds = d.files.of[q.Pid]
	return pb, d.newsOf(q)
}

// fromOutside reads what /proc and ptrace tell of a process.
func (d *Dump) fromOutside(q *process, pb *imagepb.Process) (err error) {
	pid := q.Eye
	if pb.Exe, err = exeOf(q.Process); err != nil {
		return err
	}
	word, err := needs(q.Eye, q.maps)
	if err != nil {
		return err
	}
	pb.ExactNumbers = word&shim.NeedsNumbers != 0
	place, err := describeCwd(pid)
	if err != nil {
		return err
	}
	pb.Cwd, pb.CwdRemoved, pb.Umask = place.Cwd, place.CwdRemoved, q.Status.Umask
	pb.FilesOf, pb.FsOf = int32(d.filesOf[q.Pid]), int32(d.fsOf[q.Pid])
	if pb.Pending, err = pending(q.Leader().HostTid, true); err != nil {
		return err
	}
	for r := range rlimits {
		var lim unix.Rlimit
		if err := unix.Prlimit(pid, r, nil, &lim); err != nil {
			return fmt.Errorf("read resource limit %d: %w", r, err)
		}
		pb.Rlimits = append(pb.Rlimits, &imagepb.Rlimit{Soft: lim.Cur, Hard: lim.Max})
	}
	if pb.OomScoreAdj, err = readInt(fmt.Sprintf("/proc/%d/oom_score_adj", pid)); err != nil {
		return err
	}
	st := &q.Stat
	pb.Mm = &imagepb.Mm{
		StartCode: st.StartCode, EndCode: st.EndCode, StartData: st.StartData, EndData: st.EndData,
		StartBrk: st.StartBrk, StartStack: st.StartStack,
		ArgStart: st.ArgStart, ArgEnd: st.ArgEnd, EnvStart: st.EnvStart, EnvEnd: st.EnvEnd,
	}
	pb.Mm.Auxv, err = procfs.ReadAuxv(pid)
	return err
}

// rlimits is RLIM_NLIMITS of getrlimit(2).
const rlimits = 16

func pending(tid int, shared bool) ([]*imagepb.Siginfo, error) {
	raw, err := tracee.Pending(tid, shared)
	var all []*imagepb.Siginfo
	for _, r := range raw {
		all = append(all, &imagepb.Siginfo{Raw: r})
	}
	return all, err
}

func readInt(path string) (int32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var v int32
	if _, err := fmt.Sscan(string(b), &v); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

// collectClocks reads the job's clocks: the host's, shifted by the time
// namespace of the job (time_namespaces(7)).
func (d *Dump) collectClocks() error {
	if len(d.procs) == 0 {
		return freeze.ErrEnded
	}
	shift, err := freeze.ClockShift(d.procs[0].Eye)
	if err != nil {
		return err
	}
	now := func(clock int32) int64 {
		var ts unix.Timespec
		_ = unix.ClockGettime(clock, &ts)
		return ts.Nano()
	}
	d.clocksAt = freeze.Monotonic()
	d.meta.Clocks = &imagepb.Clocks{
		MonotonicNs: int64(d.clocksAt) + int64(shift["monotonic"]),
		BoottimeNs:  now(unix.CLOCK_BOOTTIME) + int64(shift["boottime"]),
		RealtimeNs:  now(unix.CLOCK_REALTIME),
	}
	d.noteMode(shift)
	d.meta.CreatedUnixNs = d.meta.Clocks.RealtimeNs
	d.meta.MainPid = int32(d.o.MainPid)
	d.meta.MainExited = !d.isLive(d.o.MainPid)
	d.meta.MainStatus, d.meta.MainSignal = int32(d.o.MainExit.Status()), int32(d.o.MainExit.Signal)
	return nil
}

// leftThen is what was left of a running timer when the clocks were read, from
// what is left of it now: the job's time stands still between the two.
func (d *Dump) leftThen(now int64) int64 {
	if now == 0 {
		return 0
	}
	return now + int64(freeze.Monotonic()-d.clocksAt)
}

// waitThen does so for a wait, of which it is known when it was looked at.
func waitThen(w *freeze.Wait, clocks time.Duration) int64 {
	if w.Remaining == math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(max(w.Remaining+w.At-clocks, 0))
}

func (d *Dump) isLive(pid int) bool {
	for _, q := range d.procs {
		if q.Pid == pid {
			return true
		}
	}
	return false
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
