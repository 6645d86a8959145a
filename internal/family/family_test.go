// SPDX-License-Identifier: Apache-2.0

package family

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// proc4 is a process by its pid, parent, group and session.
func proc4(pid, ppid, pgid, sid int32) *imagepb.Process {
	return &imagepb.Process{Pid: pid, Ppid: ppid, Pgid: pgid, Sid: sid}
}

// show writes a tree as pid[flags](before;after).
func show(nodes []*Node) string {
	var all []string
	for _, n := range nodes {
		s := fmt.Sprint(n.Pid)
		for i, on := range []bool{n.NewSid, n.NewGroup, n.Ghost, n.Sibling} {
			if on {
				s += string("SGx="[i])
			}
		}
		if len(n.Before)+len(n.After) > 0 {
			s += "(" + show(n.Before) + ";" + show(n.After) + ")"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestArrange(t *testing.T) {
	for name, c := range map[string]struct {
		procs []*imagepb.Process
		want  string
	}{
		"one":                            {[]*imagepb.Process{proc4(10, 1, 10, 10)}, "10S"},
		"a child":                        {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(11, 10, 10, 10)}, "10S(;11)"},
		"a child with a group":           {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(11, 10, 11, 10)}, "10S(;11G)"},
		"a child with a session":         {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(11, 10, 11, 11)}, "10S(;11S)"},
		"a child older than the session": {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(11, 10, 9, 9)}, "9Sx(;10S=(11;))"},
		"an orphan":                      {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(12, 1, 10, 10)}, "10S(;12=)"},
		"a session without leader":       {[]*imagepb.Process{proc4(12, 1, 10, 10)}, "10Sx(;12=)"},
		"a group without leader":         {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(13, 10, 12, 10)}, "10S(;13 12Gx)"},
		"an orphan of a session below": {[]*imagepb.Process{proc4(10, 1, 10, 10), proc4(11, 10, 11, 11), proc4(12, 1, 11, 11)},
			"10S(;11S(;301x(;12)))"},
	} {
		tree, err := Arrange(c.procs)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := show(tree.Roots); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for name, procs := range map[string][]*imagepb.Process{
		"parent":  {proc4(11, 10, 11, 11)},
		"group":   {proc4(10, 1, 10, 10), proc4(11, 10, 11, 11), proc4(12, 10, 11, 10)},
		"a cycle": {proc4(10, 11, 10, 10), proc4(11, 10, 10, 10)},
		"session": {proc4(10, 1, 10, 10), proc4(11, 10, 11, 11), proc4(12, 11, 10, 10), proc4(13, 11, 13, 12)},
	} {
		if tree, err := Arrange(procs); err == nil {
			t.Errorf("%s: %s", name, show(tree.Roots))
		}
	}
}

// world plays what processes do, as the kernel would.
type world struct {
	*rand.Rand
	procs   []*imagepb.Process
	last    int32
	reapers bool
}

func (w *world) children(pid int32) (all []*imagepb.Process) {
	for _, p := range w.procs {
		if p.Ppid == pid {
			all = append(all, p)
		}
	}
	return all
}

func (w *world) find(pid int32) *imagepb.Process {
	for _, p := range w.procs {
		if p.Pid == pid {
			return p
		}
	}
	return nil
}

// step is one thing that one process does.
func (w *world) step() {
	p := w.procs[w.IntN(len(w.procs))]
	switch w.IntN(10) {
	case 0, 1, 2, 3:
		w.last++
		w.procs = append(w.procs, proc4(w.last, p.Pid, p.Pgid, p.Sid))
	case 4, 5:
		for _, q := range w.procs {
			if q.Pgid == p.Pid {
				return
			}
		}
		p.Sid, p.Pgid = p.Pid, p.Pid
	case 6:
		if p.Sid != p.Pid {
			p.Pgid = p.Pid
		}
	case 7:
		if q := w.procs[w.IntN(len(w.procs))]; q.Sid == p.Sid && p.Sid != p.Pid {
			p.Pgid = q.Pgid
		}
	case 8:
		w.exit(p)
	case 9:
		p.ChildSubreaper = w.reapers && w.IntN(3) == 0
	}
}

// exit ends a process; its children go to the nearest subreaper.
func (w *world) exit(p *imagepb.Process) {
	if len(w.procs) == 1 {
		return
	}
	heir := int32(1)
	for up := w.find(p.Ppid); up != nil; up = w.find(up.Ppid) {
		if up.ChildSubreaper {
			heir = up.Pid
			break
		}
	}
	for _, c := range w.children(p.Pid) {
		c.Ppid = heir
	}
	for i := range w.procs {
		if w.procs[i] == p {
			w.procs = append(w.procs[:i], w.procs[i+1:]...)
			break
		}
	}
}

// TestRandom: every tree that processes can come to can be made again.
// Arrange plays its own result through, so it need not be looked at.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("ESKY_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("ESKY_SEED=%d", seed)
	for n := range 4000 {
		w := &world{Rand: rand.New(rand.NewPCG(seed, uint64(n))), last: 1000, reapers: n%2 == 1}
		w.procs = []*imagepb.Process{proc4(1000, 1, 1000, 1000)}
		for range 5 + w.IntN(60) {
			w.step()
		}
		tree, err := Arrange(w.procs)
		if err != nil {
			var all []string
			for _, p := range w.procs {
				all = append(all, fmt.Sprintf("%d<%d g%d s%d r%v", p.Pid, p.Ppid, p.Pgid, p.Sid, p.ChildSubreaper))
			}
			s := ""
			if tree != nil {
				s = show(tree.Roots)
			}
			t.Fatalf("round %d (subreapers: %v): %v\n%s\n%s", n, w.reapers, err, strings.Join(all, "\n"), s)
		}
	}
}
