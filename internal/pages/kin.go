// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"sync"
)

// kin is a source that seems to have, in some ranges, what an earlier one has:
// memory that a fork has left to both.
//
// Which page frames they share the kernel tells root alone (proc_pid_pagemap(5)).
// So pages are compared; those that are equal without ever having been one may
// be made one as well, as nobody can tell.
type kin struct {
	*Source
	ranges []Range

	mu     sync.Mutex // guards what follows
	shared []Range
}

// How kin is found: where two sources have pages at the same addresses, some of
// each block are compared. Unrelated memory so costs next to nothing; at worst
// what could have been shared is stored for each.
const (
	leastOverlap = 16 * PageSize
	blockSize    = 32 << 20
	samples      = 16
)

// findKin looks among later sources for kin of s.
func findKin(s *Source, later []Source) ([]*kin, error) {
	var found []*kin
	if s.Pid == 0 {
		return nil, nil
	}
	for i := range later {
		other := &later[i]
		if other.Pid == 0 || other.Pid == s.Pid {
			continue
		}
		overlap := Intersect(s.Ranges, other.Ranges)
		if total(overlap) < leastOverlap {
			continue
		}
		k := &kin{Source: other}
		for _, block := range blocks(overlap) {
			alike, err := sampleAlike(s, other, block)
			if err != nil {
				return nil, err
			}
			if alike {
				k.ranges = append(k.ranges, block...)
			}
		}
		if len(k.ranges) > 0 {
			found = append(found, k)
		}
	}
	return found, nil
}

func total(ranges []Range) (n uint64) {
	for _, r := range ranges {
		n += r.Len()
	}
	return n
}

// blocks cuts ranges at multiples of blockSize and puts together what lies
// between two of those.
func blocks(ranges []Range) [][]Range {
	var out [][]Range
	last := ^uint64(0)
	for _, r := range ranges {
		for r.Start < r.End {
			number := r.Start / blockSize
			part := Range{r.Start, min(r.End, (number+1)*blockSize)}
			if number != last {
				out, last = append(out, nil), number
			}
			out[len(out)-1] = append(out[len(out)-1], part)
			r.Start = part.End
		}
	}
	return out
}

// sampleAlike compares some pages of a block; zeros tell nothing.
func sampleAlike(a, b *Source, block []Range) (bool, error) {
	n := total(block) / PageSize
	x, y := make([]byte, PageSize), make([]byte, PageSize)
	for i := range min(n, samples) {
		at := pageAt(block, i*n/min(n, samples))
		if err := a.ReadAt(x, at); err != nil {
			return false, err
		}
		if err := b.ReadAt(y, at); err != nil {
			return false, err
		}
		if bytes.Equal(x, y) && !isZero(x) {
			return true, nil
		}
	}
	return false, nil
}

// pageAt is the address of page n of ranges.
func pageAt(ranges []Range, n uint64) uint64 {
	for _, r := range ranges {
		if n < r.Len()/PageSize {
			return r.Start + n*PageSize
		}
		n -= r.Len() / PageSize
	}
	return 0
}

// compare notes which pages of a piece, whose bytes are in raw, the kin has too.
func (k *kin) compare(ranges []Range, raw, buf []byte) error {
	var same []Range
	for _, r := range ranges {
		for _, part := range Within(k.ranges, r.Start, r.End) {
			theirs := buf[:part.Len()]
			if err := k.ReadAt(theirs, part.Start); err != nil {
				return err
			}
			ours := raw[part.Start-r.Start:]
			for at := uint64(0); at < part.Len(); at += PageSize {
				page := ours[at : at+PageSize]
				if bytes.Equal(page, theirs[at:at+PageSize]) && !isZero(page) {
					same = appendRange(same, Range{part.Start + at, part.Start + at + PageSize})
				}
			}
		}
		raw = raw[r.Len():]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shared = append(k.shared, same...)
	return nil
}
