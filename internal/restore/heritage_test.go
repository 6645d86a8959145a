// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esky-hpc/esky/internal/family"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
)

// naive is a list of pieces as a map of its pages.
func naive(all []piece) map[uint64]int32 {
	m := map[uint64]int32{}
	for _, p := range all {
		for at := p.Start; at < p.End; at++ {
			m[at] = p.from
		}
	}
	return m
}

func randomPieces(r *rand.Rand) []piece {
	var all []piece
	for at := uint64(r.IntN(4)); at < 30; at += uint64(r.IntN(4)) {
		end := at + 1 + uint64(r.IntN(5))
		all = append(all, piece{pages.Range{Start: at, End: end}, 1 + int32(r.IntN(3))})
		at = end
	}
	return all
}

// TestPieces compares the operations with the same on single pages.
func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a, b := randomPieces(r), randomPieces(r)
		x, y := naive(a), naive(b)
		over, same, less := map[uint64]int32{}, map[uint64]int32{}, map[uint64]int32{}
		for at := uint64(0); at < 50; at++ {
			if y[at] != 0 {
				over[at] = y[at]
			}
			if x[at] != 0 {
				over[at] = x[at]
				if x[at] == y[at] {
					same[at] = x[at]
				} else {
					less[at] = x[at]
				}
			}
		}
		for what, c := range map[string]struct {
			got  []piece
			want map[uint64]int32
		}{"overlay": {overlay(a, b), over}, "agree": {agree(a, b), same}, "lacking": {lacking(a, b), less}} {
			if d := cmp.Diff(c.want, naive(c.got)); d != "" {
				t.Fatalf("%s of %v and %v: %v\n%s", what, a, b, c.got, d)
			}
			for i := 1; i < len(c.got); i++ {
				if c.got[i].Start < c.got[i-1].End {
					t.Fatalf("%s of %v and %v is not in order: %v", what, a, b, c.got)
				}
			}
		}
	}
}

const mib = 1 << 20

func anon(start, end uint64, flags string) *imagepb.Vma {
	return &imagepb.Vma{Start: start, End: end, Prot: 3, Flags: flags}
}

func shared(pid, from int32, start, end uint64) *imagepb.Shared {
	return &imagepb.Shared{Pid: pid, From: from, Extents: []*imagepb.Extent{{Addr: start, Pages: uint32((end - start) / pageSize)}}}
}

// TestHeritage plans for a parent, 10, its children, 11 to 13, and a child of
// the first, 14.
func TestHeritage(t *testing.T) {
	const a, b, c, d = 100 * mib, 101 * mib, 102 * mib, 103 * mib
	type want = struct {
		bases, fill string
		keeps       map[int32]string // dropped
	}
	all := func() map[int32][]*imagepb.Vma {
		vmas := map[int32][]*imagepb.Vma{}
		for pid := int32(10); pid <= 14; pid++ {
			vmas[pid] = []*imagepb.Vma{anon(a, d, "")}
		}
		return vmas
	}
	for name, tc := range map[string]struct {
		vmas   map[int32][]*imagepb.Vma
		shared []*imagepb.Shared
		want   want
	}{
		"nothing shared": {all(), nil, want{}},
		"a child has all, one a part, one nothing": {
			all(),
			[]*imagepb.Shared{shared(11, 10, a, d), shared(12, 10, b, c)},
			want{"100-103", "10:100-103=10", map[int32]string{10: "[]", 11: "[]", 12: "[100-101 102-103]"}},
		},
		"two share what their parent does not have": {
			all(),
			[]*imagepb.Shared{shared(12, 11, a, b)},
			want{"100-103", "10:100-101=11", map[int32]string{11: "[]", 12: "[]"}},
		},
		"a grandchild, past its parent": {
			all(),
			[]*imagepb.Shared{shared(14, 10, a, b)},
			want{"100-103", "10:100-101=10", map[int32]string{10: "[]", 14: "[]"}},
		},
		"a grandchild and its parent only": {
			all(),
			[]*imagepb.Shared{shared(14, 11, a, b)},
			want{"100-103", "11:100-101=11", map[int32]string{11: "[]", 14: "[]"}},
		},
		"a heap that has grown in the child": {
			map[int32][]*imagepb.Vma{10: {anon(a, b, "")}, 11: {anon(a, c, "")}},
			[]*imagepb.Shared{shared(11, 10, a, b)},
			want{"100-102", "10:100-101=10", map[int32]string{10: "[]", 11: "[]"}},
		},
		"other flags": {
			map[int32][]*imagepb.Vma{10: {anon(a, b, "hg")}, 11: {anon(a, b, "")}},
			[]*imagepb.Shared{shared(11, 10, a, b)},
			want{"100-101", "", nil}, // which nobody needs
		},
		"a stack": {
			map[int32][]*imagepb.Vma{10: {anon(a, b, "gd")}, 11: {anon(a, b, "gd")}},
			[]*imagepb.Shared{shared(11, 10, a, b)},
			want{},
		},
		"in the way of a vDSO": {
			map[int32][]*imagepb.Vma{
				10: {anon(a, c, "")}, 11: {anon(a, c, "")},
				12: {{Start: b, End: b + pageSize, Kind: imagepb.Vma_VDSO}},
			},
			[]*imagepb.Shared{shared(11, 10, a, b)},
			want{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, planned(t, tc.vmas, tc.shared), cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// planned tells in MiB what newHeritage comes to.
func planned(t *testing.T, vmas map[int32][]*imagepb.Vma, shared []*imagepb.Shared) (got struct {
	bases, fill string
	keeps       map[int32]string
}) {
	t.Helper()
	meta := &imagepb.Image{}
	nodes := map[int32]*family.Node{}
	for _, p := range []struct{ pid, ppid int32 }{{10, 1}, {11, 10}, {12, 10}, {13, 10}, {14, 11}} {
		pb := &imagepb.Process{Pid: p.pid, Ppid: p.ppid, Vmas: vmas[p.pid]}
		meta.Processes = append(meta.Processes, pb)
		nodes[p.pid] = &family.Node{P: pb, Pid: int(p.pid)}
		if parent := nodes[p.ppid]; parent != nil {
			parent.After = append(parent.After, nodes[p.pid])
		}
	}
	h := newHeritage(meta, &imagepb.PageIndex{Shared: shared}, []*family.Node{nodes[10]})
	text := func(r pages.Range) string { return fmt.Sprintf("%d-%d", r.Start/mib, r.End/mib) }
	for _, b := range h.bases {
		got.bases += text(pages.Range{Start: b.vma.Start, End: b.vma.End})
	}
	for pid := int32(10); pid <= 14; pid++ {
		for _, p := range h.of[nodes[pid]].fill {
			got.fill += fmt.Sprintf("%d:%s=%d", pid, text(p.Range), p.from)
		}
		for _, v := range vmas[pid] {
			drop, ok := h.keeps(nodes[pid], v)
			if !ok {
				continue
			}
			var parts []string
			for _, r := range drop {
				parts = append(parts, text(r))
			}
			if got.keeps == nil {
				got.keeps = map[int32]string{}
			}
			got.keeps[pid] = fmt.Sprint(parts)
		}
	}
	return got
}
