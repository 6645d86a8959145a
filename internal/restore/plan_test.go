// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"slices"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// proc4 is a process by its pid, parent, group and session.
func proc4(pid, ppid, pgid, sid int32) *imagepb.Process {
	return &imagepb.Process{Pid: pid, Ppid: ppid, Pgid: pgid, Sid: sid}
}

func TestPlanNumbers(t *testing.T) {
	p := proc4(10, 1, 10, 10)
	p.Threads = []*imagepb.Thread{{Tid: 10}, {Tid: 25}}
	p.Fds = []*imagepb.Fd{{Number: 0}, {Number: 100}}
	plan, err := NewPlan(&imagepb.Image{Processes: []*imagepb.Process{p}, OpenFiles: make([]*imagepb.OpenFile, 1)})
	if err != nil || plan.Tree.LastPid != 25 || plan.StageEnd != 101 {
		t.Errorf("%+v %v", plan, err)
	}
	p.Fds = nil
	if plan, err = NewPlan(&imagepb.Image{Processes: []*imagepb.Process{p}}); err != nil || plan.StageEnd != first+spare {
		t.Errorf("%+v %v", plan, err)
	}
}

// TestPlanStage: a description is staged at a number only if no other has that
// number in any process, and it is none of those that must stay free.
func TestPlanStage(t *testing.T) {
	fd := func(number int32, file uint32) *imagepb.Fd { return &imagepb.Fd{Number: number, OpenFile: file} }
	p, q := proc4(10, 1, 10, 10), proc4(11, 10, 10, 10)
	p.Threads, q.Threads = []*imagepb.Thread{{Tid: 10}}, []*imagepb.Thread{{Tid: 11}}
	p.Fds = []*imagepb.Fd{fd(1, 0), fd(4, 1), fd(20, 2), fd(21, 2), fd(30, 3), fd(31, 4)}
	q.Fds = []*imagepb.Fd{fd(1, 0), fd(20, 2), fd(30, 4)}
	plan, err := NewPlan(&imagepb.Image{Processes: []*imagepb.Process{p, q}, OpenFiles: make([]*imagepb.OpenFile, 6)})
	if want := []uint64{32, 33, 20, 34, 31, 35}; err != nil || !slices.Equal(plan.Stage, want) || plan.StageEnd != 36 {
		t.Errorf("%v %d %v, want %v", plan.Stage, plan.StageEnd, err, want)
	}
}

func TestFreeAddress(t *testing.T) {
	vma := func(start, end uint64) *imagepb.Process {
		return &imagepb.Process{Vmas: []*imagepb.Vma{{Start: start, End: end}}}
	}
	const need = stubLen + 2*margin
	for name, c := range map[string]struct {
		procs []*imagepb.Process
		want  uint64
	}{
		"nothing":                  {nil, lowest + margin},
		"behind":                   {[]*imagepb.Process{vma(lowest, 0x400000)}, 0x400000 + margin},
		"room enough":              {[]*imagepb.Process{vma(lowest+need, lowest+need+4096)}, lowest + margin},
		"not quite":                {[]*imagepb.Process{vma(lowest+need-4096, 0x40000000)}, 0x40000000 + margin},
		"taken by another process": {[]*imagepb.Process{vma(0x40000000, 0x50000000), vma(lowest, 0x40000000)}, 0x50000000 + margin},
		"one within another":       {[]*imagepb.Process{vma(lowest, 0x50000000), vma(0x10000000, 0x20000000)}, 0x50000000 + margin},
	} {
		if got, err := freeAddress(c.procs); err != nil || got != c.want {
			t.Errorf("%s: %#x %v, want %#x", name, got, err, c.want)
		}
	}
	if at, err := freeAddress([]*imagepb.Process{vma(lowest, highest)}); err == nil {
		t.Errorf("%#x in a full address space", at)
	}
}

// TestScriptRoom: a batch that outgrows its room is not begun.
func TestScriptRoom(t *testing.T) {
	small := &task{room: 4096}
	s := small.script()
	for range 3072/recordLen + 1 {
		s.add("getpid", 39)
	}
	if _, err := s.run(); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("records: %v", err)
	}
	s = small.script()
	s.bytes(make([]byte, 1025))
	s.add("getpid", 39)
	if _, err := s.run(); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("data: %v", err)
	}
	big := &task{room: areaLen}
	s = big.script()
	for !s.full() {
		s.add("getpid", 39)
	}
	if n := uint64(len(s.calls)) * recordLen; n > areaLen-areaLen/dataShare {
		t.Errorf("full only after %d bytes of records", n)
	}
}

func TestChosenName(t *testing.T) {
	for shown, want := range map[string]string{
		"[anon: Go: heap]": " Go: heap", "[anon_shmem:shared]": "shared", "[heap]": "", "[stack]": "", "": "", "/a/[anon:x]": "",
	} {
		if got, ok := chosenName(shown); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", shown, got, ok)
		}
	}
}
