// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// shimState is the words that the preload library of one process shares with
// us; esky_abi.h tells the protocol.
type shimState struct {
	hostPid int
	pid     int
	at      uint64
}

func newShimState(q *process) *shimState {
	layout, _ := shim.Layout() // openStub has had it
	return &shimState{hostPid: q.HostPid, pid: q.Pid, at: q.shim + layout.State}
}

func (s *shimState) read() (shim.State, error) {
	buf := make([]byte, shim.StateSize)
	if err := tracee.ReadMemory(procfs.Eye(s.hostPid), s.at, buf); err != nil {
		return shim.State{}, err
	}
	return shim.ParseState(buf)
}

func (s *shimState) set(offset uint64, v uint32) error {
	return tracee.WriteMemory(procfs.Eye(s.hostPid), s.at+offset, binary.LittleEndian.AppendUint32(nil, v))
}

// findShims looks for the library in all processes of a running job. Processes
// that come or go meanwhile are met again in the freeze.
func findShims(tree freeze.Tree) []*shimState {
	layout, err := shim.Layout()
	if err != nil {
		return nil
	}
	var all []*shimState
	pids, _ := tree.Members()
	for _, pid := range pids {
		maps, err := procfs.ReadMaps(procfs.Eye(pid))
		if err != nil {
			continue
		}
		base, ok := findShim(maps)
		status, err := procfs.ReadStatus(pid, 0)
		if ok && err == nil {
			all = append(all, &shimState{hostPid: pid, pid: ids.Virtual(last(status.NSpid)), at: base + layout.State})
		}
	}
	return all
}

// poll is how often a word in the job's memory is looked at.
const poll = 2 * time.Millisecond

// askCallbacks runs the functions that the program wants to have run before a
// checkpoint, in its own service thread, while nothing is stopped yet.
func (d *Dump) askCallbacks(ctx context.Context) error {
	deadline := time.Now().Add(d.o.HoldLimit)
	for _, s := range findShims(d.o.Tree) {
		state, err := s.read()
		if err != nil || state.ServiceTID(s.pid) == 0 {
			continue
		}
		d.shims = append(d.shims, s)
		if err := s.runBefore(ctx, state, deadline); err != nil {
			return err
		}
	}
	return nil
}

func (s *shimState) runBefore(ctx context.Context, state shim.State, deadline time.Time) error {
	for asked := state.Phase == shim.PhaseReady && state.Verdict == shim.VerdictUndecided; ; {
		switch {
		case state.Phase == shim.PhaseReady && asked:
			return nil
		case state.Phase == shim.PhaseIdle && !asked:
			if err := s.ask(state); err != nil {
				return err
			}
			asked = true
		case time.Now().After(deadline):
			return &RefusedError{Reasons: []string{fmt.Sprintf(
				"pid %d: a function registered with esky_on_checkpoint() has not returned in time", s.pid)}}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
		var err error
		if state, err = s.read(); err != nil {
			return nil // the process has ended, or executes another program
		}
	}
}

func (s *shimState) ask(state shim.State) error {
	if err := s.set(shim.OffVerdict, shim.VerdictUndecided); err != nil {
		return err
	}
	if err := s.set(shim.OffAsk, state.Ask+1); err != nil {
		return err
	}
	tid := hostTid(s.hostPid, state.ServiceTID(s.pid))
	if err := unix.Tgkill(s.hostPid, tid, unix.Signal(shim.SignalService)); err != nil {
		return fmt.Errorf("wake the service thread of pid %d: %w", s.pid, err)
	}
	return nil
}

// hostTid finds a thread of a process by its number in the job's namespace.
func hostTid(hostPid, tid int) int {
	tids, _ := procfs.Tasks(hostPid)
	for _, t := range tids {
		if status, err := procfs.ReadStatus(hostPid, t); err == nil && last(status.NSpid) == ids.Real(tid) {
			return t
		}
	}
	return 0
}

// noteRequests remembers how many checkpoints the process has asked for.
func (d *Dump) noteRequests(s *shimState) {
	state, err := s.read()
	if err == nil && state.Request != state.Published {
		d.requests = append(d.requests, Request{HostPid: s.hostPid, At: s.at, Count: state.Request})
	}
}

// tellCallbacks lets the functions for after the checkpoint run.
func (d *Dump) tellCallbacks() {
	for _, s := range d.shims {
		if state, err := s.read(); err == nil && state.ServiceTID(s.pid) != 0 && state.Verdict == shim.VerdictUndecided {
			_ = s.set(shim.OffVerdict, shim.VerdictGoesOn)
		}
	}
}

// Between two attempts the job runs on, at least as long as a server takes as a
// rule, and then longer and longer.
const firstAgain, longestAgain = 20 * time.Millisecond, time.Second

// stopInTime stops and describes the job. Where all that stands against it is
// about to pass, it lets the job go on and tries again, for a while.
func stopInTime(ctx context.Context, o Options, w *image.Writer) (*Dump, error) {
	deadline := time.Now().Add(o.HoldLimit)
	for again := firstAgain; ; again = min(2*again, longestAgain) {
		d := &Dump{o: o, meta: proto.CloneOf(o.Meta), writer: w}
		err := d.stopAndDescribe(ctx)
		var refused *RefusedError
		if !errors.As(err, &refused) || !refused.passing || time.Now().Add(again).After(deadline) {
			return d, err
		}
		d.endAgent()
		d.abandon()
		o.Known = d.frozen.Sleepers()
		select {
		case <-ctx.Done():
			return d, ctx.Err()
		case <-time.After(again):
		}
	}
}

// freezeOutsideHolds freezes the job at a moment at which no process is in a
// critical section (esky_hold).
func (d *Dump) freezeOutsideHolds(ctx context.Context) error {
	deadline := time.Now().Add(d.o.HoldLimit)
	var waiting []*shimState
	defer func() {
		for _, s := range waiting {
			_ = s.set(shim.OffWaiting, 0)
		}
	}()
	for {
		job, err := freeze.Freeze(ctx, d.o.Tree, freeze.Options{Limit: freezeLimit, Known: d.o.Known})
		if err != nil {
			return err
		}
		maps, err := readMaps(job)
		if err != nil {
			return errors.Join(err, job.Thaw())
		}
		held := heldBy(job, maps)
		if held == nil {
			d.frozen, d.maps = job, maps
			return nil
		}
		if err := job.Thaw(); err != nil {
			return err
		}
		d.o.Known = job.Sleepers()
		if time.Now().After(deadline) {
			return &RefusedError{Reasons: []string{fmt.Sprintf(
				"pid %d stays in a critical section (esky_hold without esky_release)", held.pid)}}
		}
		waiting = append(waiting, held)
		_ = held.set(shim.OffWaiting, 1)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// readMaps reads the mappings of all frozen processes, by host pid.
func readMaps(job *freeze.Job) (map[int][]procfs.Mapping, error) {
	maps := map[int][]procfs.Mapping{}
	for _, p := range job.Live() {
		var err error
		if maps[p.HostPid], err = procfs.ReadMaps(p.Eye); err != nil {
			return nil, err
		}
	}
	return maps, nil
}

// heldBy returns a frozen process that is in a critical section.
func heldBy(job *freeze.Job, maps map[int][]procfs.Mapping) *shimState {
	layout, err := shim.Layout()
	if err != nil {
		return nil
	}
	for _, p := range job.Live() {
		base, ok := findShim(maps[p.HostPid])
		s := &shimState{hostPid: p.HostPid, pid: p.Pid, at: base + layout.State}
		if !ok {
			continue
		}
		if state, err := s.read(); err == nil && state.Held(p.Pid) > 0 {
			return s
		}
	}
	return nil
}

// Requests are the calls of esky_checkpoint() in a running job that wait for an
// answer.
func Requests(initPid int) []Request {
	var all []Request
	for _, s := range findShims(freeze.Tree{Init: initPid}) {
		if state, err := s.read(); err == nil && state.Request != state.Published {
			all = append(all, Request{HostPid: s.hostPid, At: s.at, Count: state.Request})
		}
	}
	return all
}

// Write sets a word of the process that waits; offsets are those of package shim.
func (r Request) Write(offset uint64, v uint32) error {
	return tracee.WriteMemory(procfs.Eye(r.HostPid), r.At+offset, binary.LittleEndian.AppendUint32(nil, v))
}
