// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/family"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
)

// heritage plans how memory that several processes share copy-on-write comes
// back shared. Only fork(2) can make it so: a process that makes others gets,
// before it does, the pages that it and they have in common, and each then
// changes what is different in it. What does not fit into this comes back too,
// but as a copy.
//
// Processes do not get their own mappings that early. For the time of the
// cloning there are bases: mappings wide enough for those of all processes that
// share something in there. Each then keeps of a base what lies in mappings of
// its own, and no more.
type heritage struct {
	bases  []*base
	shares map[int32][]piece // of each process, by address, where it can be inherited
	of     map[*family.Node]*inheritance
}

// base is a mapping that exists while processes are cloned.
type base struct {
	vma *imagepb.Vma
	key string
}

// piece is memory that is as in the chunks of a process.
type piece struct {
	pages.Range
	from int32
}

// inheritance is what a process does about it.
type inheritance struct {
	bases []*base // which it has when it makes others
	fresh []*base // of which these are not inherited
	fill  []piece // before it makes others
	state []piece // what is then in the bases
	have  []piece // of which this much is right for the process itself
}

// keyOf says which mappings can be parts of one base; empty: of none.
func keyOf(v *imagepb.Vma) string {
	if v.Shared || v.Kind != imagepb.Vma_ANON && v.Kind != imagepb.Vma_FILE {
		return ""
	}
	for _, flag := range []string{"gd", "ht", "sl", "dp"} {
		if hasFlag(v, flag) {
			return ""
		}
	}
	key := fmt.Sprint(v.Kind)
	for _, flag := range baseFlags {
		key += fmt.Sprint(hasFlag(v, flag))
	}
	if v.Kind == imagepb.Vma_FILE {
		key += fmt.Sprintf("%d %s", v.Start-v.Offset, v.Path)
	}
	return key
}

// baseFlags are those that mmap sets and that nothing unsets.
var baseFlags = []string{"nr", "hg", "nh"}

func newHeritage(meta *imagepb.Image, index *imagepb.PageIndex, roots []*family.Node) *heritage {
	h := &heritage{shares: sharedPieces(index), of: map[*family.Node]*inheritance{}}
	h.findBases(meta.Processes)
	for _, p := range meta.Processes {
		h.shares[p.Pid] = h.inheritable(p)
	}
	wants := map[*family.Node][]piece{}
	for _, n := range roots {
		h.want(n, wants)
		h.arrange(n, &inheritance{}, wants)
	}
	return h
}

// sharedPieces lists by process what it shares with others, whoever has stored it.
func sharedPieces(index *imagepb.PageIndex) map[int32][]piece {
	stored := map[int32][]pages.Range{}
	shares := map[int32][]piece{}
	for _, s := range index.Shared {
		for _, r := range pages.FromExtents(s.Extents) {
			shares[s.Pid] = append(shares[s.Pid], piece{r, s.From})
			stored[s.From] = append(stored[s.From], r)
		}
	}
	for pid, ranges := range stored {
		for _, r := range pages.Union(ranges) {
			shares[pid] = append(shares[pid], piece{r, pid})
		}
	}
	for _, pieces := range shares {
		slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.Start, b.Start) })
	}
	return shares
}

// findBases makes a base of all mappings of a kind that overlap and in which
// something is shared. Where two bases are in each other's way, or in that of a
// vDSO, the smaller one is left out.
func (h *heritage) findBases(procs []*imagepb.Process) {
	spans := map[string][]pages.Range{}
	example := map[string]*imagepb.Vma{}
	var taken []pages.Range
	for _, p := range procs {
		for _, v := range p.Vmas {
			if v.Kind == imagepb.Vma_VDSO || v.Kind == imagepb.Vma_VVAR {
				taken = append(taken, pages.Range{Start: v.Start, End: v.End})
				continue
			}
			if key := keyOf(v); key != "" && len(within(h.shares[p.Pid], v.Start, v.End)) > 0 {
				spans[key] = append(spans[key], pages.Range{Start: v.Start, End: v.End})
				example[key] = v
			}
		}
	}
	var all []*base
	for key, ranges := range spans {
		for _, r := range pages.Union(ranges) {
			all = append(all, newBase(key, r, example[key]))
		}
	}
	size := func(b *base) uint64 { return b.vma.End - b.vma.Start }
	slices.SortFunc(all, func(a, b *base) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.vma.Start, b.vma.Start), cmp.Compare(a.key, b.key))
	})
	for _, b := range all {
		r := pages.Range{Start: b.vma.Start, End: b.vma.End}
		if slices.ContainsFunc(taken, func(t pages.Range) bool { return t.Start < r.End && r.Start < t.End }) {
			continue
		}
		taken, h.bases = append(taken, r), append(h.bases, b)
	}
	slices.SortFunc(h.bases, func(a, b *base) int { return cmp.Compare(a.vma.Start, b.vma.Start) })
}

func newBase(key string, r pages.Range, like *imagepb.Vma) *base {
	v := &imagepb.Vma{Start: r.Start, End: r.End, Prot: 3, Kind: like.Kind, Path: like.Path, Offset: like.Offset + r.Start - like.Start}
	for _, flag := range baseFlags {
		if hasFlag(like, flag) {
			v.Flags += flag + " "
		}
	}
	return &base{v, key}
}

// baseOf finds the base that a mapping can be a part of.
func (h *heritage) baseOf(v *imagepb.Vma) *base {
	i, found := slices.BinarySearchFunc(h.bases, v.Start, func(b *base, at uint64) int {
		switch {
		case b.vma.End <= at:
			return -1
		case b.vma.Start > at:
			return 1
		}
		return 0
	})
	if !found || h.bases[i].vma.End < v.End || h.bases[i].key != keyOf(v) {
		return nil
	}
	return h.bases[i]
}

// inheritable is what a process shares in mappings that are parts of a base.
func (h *heritage) inheritable(p *imagepb.Process) []piece {
	var out []piece
	for _, v := range p.Vmas {
		if h.baseOf(v) != nil {
			out = append(out, within(h.shares[p.Pid], v.Start, v.End)...)
		}
	}
	return out
}

// own is what the process itself shares; a ghost has nothing.
func (h *heritage) own(n *family.Node) []piece {
	if n.P == nil {
		return nil
	}
	return h.shares[n.P.Pid]
}

// want works out what a process and those that it makes would inherit gladly.
// Where they do not agree the process itself goes first, then its eldest.
func (h *heritage) want(n *family.Node, wants map[*family.Node][]piece) {
	wanted := h.own(n)
	for _, c := range n.Makes() {
		h.want(c, wants)
		wanted = overlay(wanted, wants[c])
	}
	wants[n] = wanted
}

// arrange decides what a process fills in, given what its maker had: all that
// two or more of it and those that it makes have in common.
func (h *heritage) arrange(n *family.Node, maker *inheritance, wants map[*family.Node][]piece) {
	i := &inheritance{bases: maker.bases, state: maker.state}
	if n.P != nil {
		var hold []piece
		once := h.own(n)
		for _, c := range n.Makes() {
			m := agree(wants[n], wants[c])
			hold = overlay(hold, agree(m, once))
			once = overlay(once, m)
		}
		i.fill = lacking(hold, maker.state)
		i.state = overlay(hold, maker.state)
		for _, b := range h.bases {
			if len(within(i.fill, b.vma.Start, b.vma.End)) > 0 && !slices.Contains(i.bases, b) {
				i.fresh = append(i.fresh, b)
			}
		}
		i.bases = slices.Concat(i.bases, i.fresh)
		i.have = agree(h.own(n), i.state)
	}
	h.of[n] = i
	for _, c := range n.Makes() {
		h.arrange(c, i, wants)
	}
}

// keeps says whether a mapping of the process is taken from a base, and which
// of the pages there it does not have.
func (h *heritage) keeps(n *family.Node, v *imagepb.Vma) (drop []pages.Range, ok bool) {
	i := h.of[n]
	if i == nil || len(i.have) == 0 {
		return nil, false
	}
	have := within(i.have, v.Start, v.End)
	if b := h.baseOf(v); len(have) == 0 || b == nil || !slices.Contains(i.bases, b) {
		return nil, false
	}
	return pages.Subtract(rangesOf(within(i.state, v.Start, v.End)), rangesOf(have)), true
}
