// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"cmp"
	"slices"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Range is a range of addresses, page aligned.
type Range struct{ Start, End uint64 }

// Len is its size in bytes.
func (r Range) Len() uint64 { return r.End - r.Start }

// appendRange adds a range behind all others.
func appendRange(all []Range, r Range) []Range {
	if n := len(all); n > 0 && all[n-1].End == r.Start {
		all[n-1].End = r.End
		return all
	}
	return append(all, r)
}

// Union sorts ranges and joins those that touch or overlap.
func Union(all []Range) []Range {
	slices.SortFunc(all, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	var out []Range
	for _, r := range all {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Intersect returns what two ascending lists have in common.
func Intersect(a, b []Range) []Range {
	var out []Range
	for len(a) > 0 && len(b) > 0 {
		if r := (Range{max(a[0].Start, b[0].Start), min(a[0].End, b[0].End)}); r.Start < r.End {
			out = appendRange(out, r)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// Subtract returns what an ascending list has and another has not.
func Subtract(a, b []Range) []Range {
	var out []Range
	for _, r := range a {
		for len(b) > 0 && b[0].End <= r.Start {
			b = b[1:]
		}
		for i := 0; i < len(b) && b[i].Start < r.End; i++ {
			if r.Start < b[i].Start {
				out = append(out, Range{r.Start, b[i].Start})
			}
			r.Start = max(r.Start, min(b[i].End, r.End))
		}
		if r.Start < r.End {
			out = append(out, r)
		}
	}
	return out
}

// Within returns the part of an ascending list that lies between two addresses;
// it costs little where the list is long.
func Within(all []Range, start, end uint64) []Range {
	i, _ := slices.BinarySearchFunc(all, start, func(r Range, at uint64) int {
		if r.End <= at {
			return -1
		}
		return 1
	})
	j := i
	for j < len(all) && all[j].Start < end {
		j++
	}
	return Intersect(all[i:j], []Range{{start, end}})
}

// FromExtents gives extents as ranges.
func FromExtents(extents []*imagepb.Extent) []Range {
	out := make([]Range, 0, len(extents))
	for _, e := range extents {
		out = append(out, Range{e.Addr, e.Addr + uint64(e.Pages)*PageSize})
	}
	return out
}

// ToExtents gives ranges as extents; none is too long for one.
func ToExtents(ranges []Range) []*imagepb.Extent {
	const most = 1 << 30
	var out []*imagepb.Extent
	for _, r := range ranges {
		for r.Start < r.End {
			n := min(r.Len()/PageSize, most)
			out = append(out, &imagepb.Extent{Addr: r.Start, Pages: uint32(n)})
			r.Start += n * PageSize
		}
	}
	return out
}
