// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"slices"

	"github.com/esky-hpc/esky/internal/pages"
)

// Lists of pieces are ascending and do not overlap.

// within returns the parts of pieces that lie between two addresses.
func within(all []piece, start, end uint64) []piece {
	i, _ := slices.BinarySearchFunc(all, start, func(p piece, at uint64) int {
		if p.End <= at {
			return -1
		}
		return 1
	})
	var out []piece
	for ; i < len(all) && all[i].Start < end; i++ {
		out = append(out, piece{pages.Range{Start: max(all[i].Start, start), End: min(all[i].End, end)}, all[i].from})
	}
	return out
}

// rangesOf forgets whose they are.
func rangesOf(all []piece) []pages.Range {
	out := make([]pages.Range, 0, len(all))
	for _, p := range all {
		out = append(out, p.Range)
	}
	return out
}

// overlay returns all of top, and of bottom what top leaves free.
func overlay(top, bottom []piece) []piece {
	if len(top) == 0 {
		return bottom
	}
	if len(bottom) == 0 {
		return top
	}
	out := append(slices.Clone(top), cut(bottom, top, func(_, _ int32) bool { return true })...)
	slices.SortFunc(out, func(a, b piece) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// lacking returns what of want is not so in have.
func lacking(want, have []piece) []piece {
	return cut(want, have, func(a, b int32) bool { return a == b })
}

// agree returns what is the same in both.
func agree(a, b []piece) []piece {
	var out []piece
	for len(a) > 0 && len(b) > 0 {
		r := pages.Range{Start: max(a[0].Start, b[0].Start), End: min(a[0].End, b[0].End)}
		if r.Start < r.End && a[0].from == b[0].from {
			out = append(out, piece{r, a[0].from})
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// cut takes from a what overlaps those pieces of b that the function names.
func cut(a, b []piece, away func(a, b int32) bool) []piece {
	var out []piece
	for _, p := range a {
		for len(b) > 0 && b[0].End <= p.Start {
			b = b[1:]
		}
		for i := 0; i < len(b) && b[i].Start < p.End; i++ {
			if !away(p.from, b[i].from) {
				continue
			}
			if p.Start < b[i].Start {
				out = append(out, piece{pages.Range{Start: p.Start, End: b[i].Start}, p.from})
			}
			p.Start = max(p.Start, min(b[i].End, p.End))
		}
		if p.Start < p.End {
			out = append(out, p)
		}
	}
	return out
}
