// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Share notes that the process pid has, at the extents' addresses, the pages
// that the chunks of another one have there. The extents are ascending, do not
// overlap, and belong to the Writer from now on. It may be called by several
// goroutines at a time.
func (w *Writer) Share(pid, from int32, extents []*imagepb.Extent) {
	if len(extents) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shared = append(w.shared, &imagepb.Shared{Pid: pid, From: from, Extents: extents})
}

// span is an extent by its ends.
type span struct{ start, end uint64 }

func spanOf(e *imagepb.Extent) span {
	return span{e.Addr, e.Addr + uint64(e.Pages)*align}
}

// checkShared checks that each shared page is stored, once, for the process
// that it is shared with, and not for the sharing process too.
func checkShared(x *imagepb.PageIndex) error {
	if len(x.Shared) == 0 {
		return nil
	}
	stored := storedSpans(x)
	taken := map[int32][]span{}
	for i, s := range x.Shared {
		if s.GetPid() <= 0 || s.GetFrom() <= 0 || s.Pid == s.From || len(s.Extents) == 0 {
			return fmt.Errorf("shared %d: pid %d from %d, %d extents", i, s.GetPid(), s.GetFrom(), len(s.GetExtents()))
		}
		var last uint64
		for j, e := range s.Extents {
			if e.GetPages() == 0 || e.Addr%align != 0 || e.Addr < last || spanOf(e).end < e.Addr {
				return fmt.Errorf("shared %d, extent %d: %d pages at %#x", i, j, e.GetPages(), e.GetAddr())
			}
			last = spanOf(e).end
			if !covered(stored[s.From], spanOf(e)) {
				return fmt.Errorf("shared %d, extent %d: pid %d has not all of %d pages at %#x", i, j, s.From, e.Pages, e.Addr)
			}
			taken[s.Pid] = append(taken[s.Pid], spanOf(e))
		}
	}
	for pid, spans := range taken {
		spans = append(spans, stored[pid]...)
		sortSpans(spans)
		for i := 1; i < len(spans); i++ {
			if spans[i].start < spans[i-1].end {
				return fmt.Errorf("pid %d has the page at %#x twice", pid, spans[i].start)
			}
		}
	}
	return nil
}

// storedSpans lists, sorted, what the chunks have of each process that something
// is shared by or with.
func storedSpans(x *imagepb.PageIndex) map[int32][]span {
	stored := map[int32][]span{}
	for _, s := range x.Shared {
		stored[s.GetPid()], stored[s.GetFrom()] = nil, nil
	}
	for _, c := range x.Chunks {
		if _, ok := stored[c.Pid]; !ok || c.Pid == 0 {
			continue
		}
		for _, e := range c.Extents {
			stored[c.Pid] = append(stored[c.Pid], spanOf(e))
		}
	}
	for _, spans := range stored {
		sortSpans(spans)
	}
	return stored
}

func sortSpans(spans []span) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
}

// covered says that sorted spans have all of s.
func covered(spans []span, s span) bool {
	i, _ := slices.BinarySearchFunc(spans, s.start, func(a span, at uint64) int {
		if a.end <= at {
			return -1
		}
		return 1
	})
	for ; i < len(spans) && spans[i].start <= s.start && s.start < s.end; i++ {
		s.start = max(s.start, spans[i].end)
	}
	return s.start >= s.end
}
