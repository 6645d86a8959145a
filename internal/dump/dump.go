// SPDX-License-Identifier: Apache-2.0

// Package dump writes an image of a running job.
//
// The flow of Run:
//
//	preflight   look for state that cannot be carried; nobody is stopped
//	yield       let critical sections end, run the program's callbacks
//	freeze      stop every thread (package freeze)
//	collect     describe processes, files, memory: from outside where /proc and
//	            ptrace tell, from inside through the stub where only they can
//	snapshot    fork each process, unseen by the job
//	thaw        the job goes on; its pause ends here
//	store       write the snapshots' memory, then the metadata
//
// When the job is to stop, there is no snapshot and no thaw: its own memory is
// stored, and the caller decides by Release whether it ends or goes on.
package dump

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/agent"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/namespace"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// Options of a dump.
type Options struct {
	Tree      freeze.Tree    // which processes are the job
	MainPid   int            // in the namespace
	MainExit  namespace.Exit // when the main process is gone
	Dir       string         // of the new generation
	Codec     image.Codec    //
	Stop      bool           // keep the job frozen until Release
	Cut       bool           // accept pipes that lead outside, as if nobody were there
	Meta      *imagepb.Image // filled in as far as the caller knows
	HoldLimit time.Duration  // how long to wait for critical sections and what else passes
	Known     []freeze.Sleeper

	Scratch        []string // directories for temporary files, beside the usual ones
	PrivateScratch []string // those of them that are the job's alone
	FilesLimit     uint64   // bytes of files to copy; 0: DefaultFilesLimit
	busy           []string // files that the job writes to all the time, though they look at rest

	Progress func(phase string, done, total int64)
}

// Result of a dump.
type Result struct {
	Pause    time.Duration
	Bytes    int64
	Sleepers []freeze.Sleeper
	Requests []Request // esky_checkpoint() calls that this image answers
	Notes    []string
}

// Request is a program's wait for a checkpoint: its words in the memory of a
// process, and how many calls there were at the freeze (esky_abi.h).
type Request struct {
	HostPid int
	At      uint64
	Count   uint32
}

// RefusedError lists the state that cannot be carried, each with where it is
// and what to do.
type RefusedError struct {
	Reasons []string
	// passing: all of it is in a state that ends by itself, as a rule at once.
	passing bool
}

func (e *RefusedError) Error() string { return strings.Join(e.Reasons, "; ") }

// Dump is a dump in progress.
type Dump struct {
	o        Options
	frozen   *freeze.Job
	procs    []*process    // live ones
	clocksAt time.Duration // when the job's clocks were read, on the host's CLOCK_MONOTONIC
	meta     *imagepb.Image
	files    *fileTable
	maps     map[int][]procfs.Mapping // of the frozen processes, by host pid
	filesOf  map[int]int              // of each process that shares its descriptors, the first that does
	fsOf     map[int]int              // the same of working directory and umask
	sockets  *sockets
	credsOf  []*file // sockets whose peer's process has ended
	shims    []*shimState
	pipeOf   []*file // of each of meta.Pipes, a descriptor
	objects  []*object
	jobFiles []*jobFile
	notes    []string
	requests []Request
	writer   *image.Writer
	shared   []pages.Source // copied, or readable, after the thaw
	thawed   bool
	began    time.Time
	pause    time.Duration

	agent        *agent.Agent // in the job's namespaces, until all is described
	agentProcess *process     // the agent, as one that maps segments
	queueInos    []uint64     // of each of meta.PosixQueues
	terminals    []*terminal  // as meta.Ptys

	news   news
	before *beforehand
	noRoom error // why there is to be no snapshot, or nil
}

// pauseGC is by how much percent the heap may grow in the pause before garbage is
// collected, in place of 100.
const pauseGC = 800

// freezeLimit is how long all threads together may take to stop.
const freezeLimit = 10 * time.Second

// Run dumps the job. After an error the job runs on, whatever o.Stop says. Where it
// has written to files while they were copied, it is dumped once more, and these are
// copied while it stands still.
func Run(ctx context.Context, o Options) (*Dump, *Result, error) {
	for {
		d, result, err := run(ctx, o)
		var moved *movedError
		if !errors.As(err, &moved) {
			return d, result, err
		}
		if err := empty(o.Dir); err != nil {
			return nil, nil, err
		}
		o.busy = append(o.busy, moved.paths...)
		o.Known = d.frozen.Sleepers()
	}
}

func run(ctx context.Context, o Options) (*Dump, *Result, error) {
	w, err := image.Create(o.Dir, o.Codec)
	if err != nil {
		return nil, nil, err
	}
	d, err := stopInTime(ctx, o, w)
	defer d.endAgent() // until then it holds segments that nobody else maps
	if err == nil {
		err = d.finish(ctx)
	}
	if err != nil {
		w.Abort()
		d.abandon()
		if members, gone := o.Tree.Members(); errors.Is(gone, freeze.ErrEnded) || gone == nil && len(members) == 0 {
			err = freeze.ErrEnded // whatever it was that we missed of it
		}
		return d, nil, err
	}
	if !o.Stop {
		d.endSnapshots()
	}
	return d, &Result{Pause: d.pause, Bytes: w.Written(), Sleepers: d.frozen.Sleepers(), Requests: d.requests, Notes: d.notes}, nil
}

// empty removes what there is of an image that was given up.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// finish writes the image of a job that is described.
func (d *Dump) finish(ctx context.Context) error {
	if d.o.Stop {
		d.pause = time.Since(d.began) // so far
	}
	if err := d.store(ctx); err != nil {
		return err
	}
	d.noteExact()
	d.meta.PauseNs = int64(d.pause)
	return d.writer.Finish(d.meta)
}

// stopAndDescribe is the job's pause.
func (d *Dump) stopAndDescribe(ctx context.Context) (err error) {
	if d.before, err = preflight(d.o.Tree); err != nil {
		return err
	}
	if d.noRoom, err = d.lookForRoom(); err != nil {
		return err
	}
	if err := d.startAgent(); err != nil {
		return err
	}
	if err := d.askCallbacks(ctx); err != nil {
		return err
	}
	// The garbage of a description is little, and to collect it takes long.
	defer debug.SetGCPercent(debug.SetGCPercent(pauseGC))
	if err := d.freezeOutsideHolds(ctx); err != nil {
		return err
	}
	d.began = d.frozen.At
	if err := d.collect(); err != nil {
		return err
	}
	if d.o.Stop {
		return nil
	}
	if d.noRoom != nil {
		return d.withoutSnapshot(d.noRoom)
	}
	d.endAgent()
	if err := d.snapshot(); err != nil {
		return d.withoutSnapshot(err)
	}
	return d.thaw()
}

// startAgent puts an agent into the namespaces of a job that has any of its own.
func (d *Dump) startAgent() error {
	if d.o.Tree.Adopted() {
		return nil
	}
	theirs, err := procfs.Link(d.o.Tree.Init, "ns/ipc")
	if err != nil {
		return err
	}
	if ours, err := procfs.Link(os.Getpid(), "ns/ipc"); err != nil || ours == theirs {
		return err
	}
	d.agent, err = agent.Start(d.o.Tree.Init)
	return err
}

func (d *Dump) endAgent() {
	if d.agent != nil {
		d.agent.Close()
		d.agent = nil
	}
}

// withoutSnapshot goes on with the job frozen where it has no room for a
// snapshot: better a long pause than no checkpoint.
func (d *Dump) withoutSnapshot(err error) error {
	var room *noRoomError
	if !errors.As(err, &room) {
		return err
	}
	d.notes = append(d.notes, fmt.Sprintf("the job stands still while its memory is written: %v", room))
	d.endSnapshots()
	return nil
}

// thaw lets the job go on.
func (d *Dump) thaw() error {
	if d.thawed || d.frozen == nil {
		return nil
	}
	d.thawed = true
	d.tellCallbacks()
	var first error
	for _, p := range d.procs {
		if err := p.closeStub(); err != nil && first == nil {
			first = err
		}
	}
	if err := d.frozen.Thaw(); err != nil && first == nil {
		first = err
	}
	d.pause = time.Since(d.began)
	return first
}

// abandon undoes what an unfinished dump has done to the job.
func (d *Dump) abandon() {
	d.endSnapshots()
	if d.frozen == nil {
		d.tellCallbacks()
	}
	_ = d.thaw()
}

// Release ends the pause of a job that was dumped with Stop: by its end, or by
// letting it go on.
func (d *Dump) Release(end bool) error {
	if !end {
		return d.thaw()
	}
	d.dropConnections()
	if d.o.Tree.Adopted() {
		return d.kill()
	}
	if err := unix.Kill(d.o.Tree.Init, unix.SIGKILL); err != nil || !ids.Shim() {
		return err // the tracees end with it, in its namespace
	}
	return d.kill()
}

// kill ends the frozen processes and waits until they are dead. They stand still,
// so there are no others, and nobody else can have got one of their pids.
func (d *Dump) kill() error {
	for _, q := range d.procs {
		if err := unix.Kill(q.HostPid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("end pid %d: %w", q.Pid, err)
		}
	}
	for _, q := range d.procs {
		for _, t := range slices.Backward(q.Threads) { // the leader is dead after all others
			for {
				s, err := tracee.Wait(t.HostTid)
				if err != nil || s.Ended() {
					break
				}
			}
		}
	}
	return nil
}

// store writes memory and metadata.
func (d *Dump) store(ctx context.Context) error {
	// First of all the files, which the job goes on changing.
	if err := d.storeJobFiles(); err != nil {
		return err
	}
	sources, err := d.memory()
	if err != nil {
		return err
	}
	total := pages.Bytes(sources)
	done := pages.Counter(d.o.Progress, "writing memory", total)
	if err := pages.Store(ctx, d.writer, sources, done); err != nil {
		return err
	}
	d.meta.MemoryBytes = uint64(pages.Bytes(sources)) // without what is shared
	if !d.thawed && !d.o.Stop {                       // no room for a snapshot
		if err := d.thaw(); err != nil {
			return err
		}
	}
	if err := d.syncFiles(); err != nil {
		return err
	}
	return d.describeHost()
}

// syncFiles makes what the job has written durable: an image that survives a
// power failure is worth nothing beside an output file that does not.
func (d *Dump) syncFiles() error {
	for _, path := range d.writtenFiles() {
		f, err := os.Open(path)
		if err != nil {
			continue // renamed or removed since the thaw
		}
		err = f.Sync()
		f.Close()
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("make %s durable: %w", path, err)
		}
	}
	return nil
}

// writtenFiles are the paths of the files that the job may have written to.
func (d *Dump) writtenFiles() []string {
	var all []string
	for _, f := range d.meta.OpenFiles {
		if f.Flags&unix.O_ACCMODE != unix.O_RDONLY && strings.HasPrefix(f.Path, "/") &&
			(f.Kind == imagepb.OpenFile_REGULAR || f.Kind == imagepb.OpenFile_STDIO) && !(&file{pb: f}).leased() {
			all = append(all, f.Path)
		}
	}
	for _, pb := range d.meta.Processes {
		for _, v := range pb.Vmas {
			if v.Kind == imagepb.Vma_FILE && v.Shared && v.Prot&unix.PROT_WRITE != 0 {
				all = append(all, v.Path)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (d *Dump) describeHost() error {
	h, err := host.Describe()
	if err != nil {
		return err
	}
	d.meta.Host, h.MaxPid = h, d.maxPid()
	for _, path := range d.mappedFiles() {
		f, err := mappedFile(path)
		if err != nil {
			return err
		}
		h.Files = append(h.Files, f)
	}
	return nil
}

// maxPid is the highest number that a task, session or group of the job has.
func (d *Dump) maxPid() int32 {
	var most int32
	for _, pb := range d.meta.Processes {
		most = max(most, pb.Pid, pb.Sid, pb.Pgid)
		for _, t := range pb.Threads {
			most = max(most, t.Tid)
		}
	}
	return most
}

// hashLimit is the size up to which a mapped file without a build id is hashed;
// of larger ones, which are data, size and time have to do.
const hashLimit = 64 << 20

func mappedFile(path string) (*imagepb.MappedFile, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("mapped file: %w", err)
	}
	if st.Size() <= hashLimit {
		return host.MappedFile(path)
	}
	return &imagepb.MappedFile{Path: path, Size: uint64(st.Size()), MtimeNs: st.ModTime().UnixNano()}, nil
}
