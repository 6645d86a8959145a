// SPDX-License-Identifier: Apache-2.0

// Package restore rebuilds the processes of a job from an image.
//
// NewPlan works out, from the metadata alone, what is to be made in which
// order. Run then does it, in a fresh set of namespaces in which the init has
// started a seed:
//
//	files    every open file description is opened once, in the seed
//	tree     processes are cloned off the seed with their pids, while they are
//	         small; sessions and groups are made; the seed is killed
//	memory   each process gets its mappings; all pages are loaded and checked
//	threads  cloned with their tids
//	state    descriptors, signals, timers, limits, …, by the processes
//	         themselves through the stub
//	rollback files that have changed since are put back
//	waits    interrupted timed waits are entered again for what is left
//	go       registers are set, and all threads are let go
//
// Until the last step nothing of the program runs, and an error, a damaged
// chunk for one, leaves nothing behind: the caller kills the init.
package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// Options of a restore.
type Options struct {
	Init     int // host pid of the init that has the seed
	Image    *image.Reader
	Files    FilePolicy
	SavedDir string // where what a rollback cuts off is kept
	Table    string // without namespaces: file for the table of process numbers
	Progress func(phase string, done, total int64)
}

// Result of a restore.
type Result struct {
	Bytes    int64
	Sleepers []freeze.Sleeper
	Notes    []string
	IDs      *ids.Table
}

type restorer struct {
	ctx     context.Context
	init    int
	image   *image.Reader
	meta    *imagepb.Image
	plan    *Plan
	files   *files
	seed    *task
	seedfd  int
	sockets *sockets

	heritage *heritage
	loaded   map[int]bool // chunks that have been read, before the tree was complete

	procs   []*proc
	pts     []uint32            // numbers that the terminals have got
	objects map[uint32]*os.File // staged, to be filled from the page data
	// segments that are being filled, by the index of their objects
	segments map[uint32]segment
	done     map[uint32]bool   // descriptions whose state is set
	removed  map[uint64]string // directories that have a name only for now, by inode
	owned    map[uint32]bool   // and those whose owner is set
	denials  []func() error    // see allow
	tick     func(int)
	notes    []string
	asleep   []freeze.Sleeper // waits that were entered again
	shim     numbers          // without namespaces
	zero     time.Duration    // host's CLOCK_MONOTONIC when the job's clock stood as at the freeze
}

func (r *restorer) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// Run makes the job and lets it go.
func Run(ctx context.Context, o Options) (*Result, error) {
	meta := o.Image.Meta()
	upgradeSockets(meta)
	plan, err := NewPlan(meta)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, c := range o.Image.Index().Chunks {
		total += int64(c.RawLen)
	}
	r := &restorer{
		ctx: ctx, init: o.Init, image: o.Image, meta: meta, plan: plan, objects: map[uint32]*os.File{},
		files:    &files{policy: o.Files, saved: o.SavedDir, meta: meta, open: o.Image.OpenFile},
		shim:     numbers{path: o.Table},
		heritage: newHeritage(meta, o.Image.Index(), plan.Tree.Roots), loaded: map[int]bool{},
		tick: pages.Counter(o.Progress, "loading memory", total),
	}
	r.files.note = r.note
	for _, step := range []func() error{
		r.allow, r.checkFiles, r.chooseNumbers, r.checkSockets, r.takeSeed, r.stageFiles, r.openFiles,
		r.makeTree, r.fillSockets, r.openIPC, r.dropSeed, r.makeMemory, r.closeIPC, r.makeThreads, r.setState,
		r.removeDirs, r.putFilesBack, r.giveNumbers, r.renameThreads, r.setLeases, r.setWatches, r.deny, r.forgetSeed, r.letGo,
	} {
		if err := step(); err != nil {
			_ = r.deny()
			r.files.discard()
			_ = r.removeDirs()
			return nil, err
		}
	}
	return &Result{Bytes: total, Sleepers: r.asleep, Notes: r.notes, IDs: ids.Current()}, nil
}

func (r *restorer) checkFiles() error { return r.files.check(r.init) }

func (r *restorer) stageFiles() error { return r.files.job.Stage() }

// putFilesBack touches the user's files, and therefore comes when all of the image
// has been read and found good, and the job has got everything else.
func (r *restorer) putFilesBack() error { return r.files.putBack() }

// takeSeed stops the seed and plants the stub in it.
func (r *restorer) takeSeed() error {
	pids, err := freeze.Descendants(r.init)
	if err != nil {
		return err
	}
	if len(pids) != 1 {
		return fmt.Errorf("the init has %d processes, not the seed alone", len(pids))
	}
	host := pids[0]
	if err := tracee.Seize(host); err != nil {
		return err
	}
	if err := tracee.Interrupt(host); err != nil {
		return err
	}
	if _, err := tracee.Wait(host); err != nil {
		return err
	}
	if err := tracee.ArmExitKill(host); err != nil {
		return err
	}
	if err := tracee.SetSigmask(host, allButTrap); err != nil {
		return err
	}
	seed, err := plant(host, r.plan.Stub, shim.StubCode())
	if err != nil {
		return err
	}
	r.seed = seed
	return r.joinClocks()
}

// joinClocks takes the seed, and all that is cloned off it, into the time
// namespace that the init has made for its children.
func (r *restorer) joinClocks() error {
	s := r.seed.script()
	s.add("close_range", unix.SYS_CLOSE_RANGE, namespace.SeedInitFD+1, uint64(^uint32(0)), 0)
	if ids.Shim() {
		r.zero = r.setShift()
		return s.do()
	}
	s.add("open the time namespace", unix.SYS_OPENAT, namespace.SeedInitFD, s.string("ns/time_for_children"), unix.O_RDONLY, 0)
	s.add("setns", unix.SYS_SETNS, namespace.SeedInitFD+1, unix.CLONE_NEWTIME)
	if err := s.do(); err != nil {
		return fmt.Errorf("set the job's clocks: %w", err)
	}
	shift, err := freeze.ClockShift(r.seed.host)
	if err != nil {
		return err
	}
	r.zero = time.Duration(r.meta.Clocks.MonotonicNs) - shift["monotonic"]
	return nil
}

// dropSeed ends what was needed only to make the others.
func (r *restorer) dropSeed() error {
	if !ids.Shim() {
		if err := r.setLastPid(); err != nil {
			return err
		}
	}
	if err := r.endGhosts(); err != nil {
		return err
	}
	if err := r.unshare(); err != nil {
		return err
	}
	var err error
	if r.seedfd, err = unix.PidfdOpen(r.seed.host, 0); err != nil {
		return err
	}
	return kill(r.seed.host)
}

// forgetSeed waits until the init has reaped the seed, which nobody in the job is
// to see.
func (r *restorer) forgetSeed() error {
	defer unix.Close(r.seedfd)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := unix.PidfdSendSignal(r.seedfd, 0, nil, 0); errors.Is(err, unix.ESRCH) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("the init does not reap the process that the others were cloned from")
		}
	}
}

// makeMemory gives every process its address space.
func (r *restorer) makeMemory() error {
	for _, p := range r.live() {
		if err := p.makeMappings(r); err != nil {
			return fmt.Errorf("pid %d: %w", p.pb.Pid, err)
		}
	}
	if err := r.holdSegments(); err != nil {
		return err
	}
	if err := r.load(); err != nil {
		return err
	}
	if err := r.releaseSegments(); err != nil {
		return err
	}
	for _, f := range r.objects {
		f.Close()
	}
	for _, p := range r.live() {
		if err := p.setMm(r); err != nil {
			return fmt.Errorf("pid %d: %w", p.pb.Pid, err)
		}
	}
	return nil
}

// live are the processes that are to run.
func (r *restorer) live() []*proc {
	var all []*proc
	for _, p := range r.procs {
		if p.pb.State != imagepb.Process_ZOMBIE {
			all = append(all, p)
		}
	}
	return all
}

// Where each thread has its records: the leader in the first half of the area,
// the others in slots of the second.
const (
	leaderRoom = areaLen / 2
	threadRoom = areaLen / 2
)

// makeThreads clones the threads of every process with their tids.
func (r *restorer) makeThreads() error {
	for _, p := range r.live() {
		rest := p.pb.Threads
		if !p.mainEnded() {
			p.threads, rest = []*task{p.task}, rest[1:]
		}
		for _, t := range rest {
			if err := r.cloneThread(p, t); err != nil {
				return fmt.Errorf("pid %d: make thread %d: %w", p.pb.Pid, t.Tid, err)
			}
		}
		p.room = leaderRoom
	}
	return nil
}

// cloneThread makes a thread: by the main thread, or by one whose working directory
// it shares (CLONE_FS).
func (r *restorer) cloneThread(p *proc, t *imagepb.Thread) error {
	flags, maker := uint64(unix.CLONE_VM|unix.CLONE_FILES|unix.CLONE_SIGHAND|unix.CLONE_THREAD|unix.CLONE_SYSVSEM), p.task
	if t.Fs == nil {
		flags |= unix.CLONE_FS
	}
	if t.FsOf != 0 {
		if maker = p.thread(t.FsOf); maker == nil {
			return fmt.Errorf("there is no thread %d, whose working directory it shares", t.FsOf)
		}
	}
	born, err := r.clone(maker, int(t.Tid), flags, 0)
	if err != nil {
		return err
	}
	if err := tracee.SetSigmask(born, allButTrap); err != nil {
		return err
	}
	// Threads do their part one after the other, so they share a slot.
	p.threads = append(p.threads, &task{
		host: born, pid: p.pid, stub: p.stub, regs: p.regs, slot: leaderRoom, room: threadRoom,
	})
	return nil
}

// thread finds a thread that is made already.
func (p *proc) thread(tid int32) *task {
	for i, t := range p.threads {
		if p.pb.Threads[i].Tid == tid {
			return t
		}
	}
	return nil
}
