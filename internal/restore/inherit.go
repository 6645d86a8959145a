// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
)

// bequeath prepares a process for the making of its children: it gets the
// pages that they are to have in common with it or with each other.
func (r *restorer) bequeath(p *proc) error {
	i := r.heritage.of[p.node]
	if i == nil || len(i.fill) == 0 {
		return nil
	}
	var inherited []pages.Range
	for _, b := range i.bases[:len(i.bases)-len(i.fresh)] {
		inherited = append(inherited, pages.Range{Start: b.vma.Start, End: b.vma.End})
	}
	if err := p.clear(inherited); err != nil {
		return err
	}
	if err := p.moveVDSO(); err != nil {
		return err
	}
	for _, b := range i.fresh {
		s := p.script()
		if b.vma.Kind == imagepb.Vma_FILE {
			p.open(s, b.vma, r.files.now(b.vma.Path))
		}
		p.mmap(s, r, b.vma)
		if b.vma.Kind == imagepb.Vma_FILE {
			s.add("close", unix.SYS_CLOSE, first)
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return r.fill(p, i.fill)
}

// fill loads pieces into the bases of a process.
func (r *restorer) fill(p *proc, pieces []piece) error {
	wanted := map[int32][]pages.Range{}
	for _, piece := range pieces {
		wanted[piece.from] = append(wanted[piece.from], piece.Range)
	}
	mem, err := pages.OpenMemory(p.host)
	if err != nil {
		return err
	}
	defer mem.Close()
	chunks := r.image.Index().Chunks
	var fresh, again []int
	for i, c := range chunks {
		switch {
		case c.Pid == 0 || !touches(c, wanted[c.Pid]):
		case r.loaded[i]:
			again = append(again, i)
		default:
			fresh = append(fresh, i)
			r.loaded[i] = true
		}
	}
	sink := func(c *imagepb.Chunk) pages.Sink {
		t := target{only: wanted[c.Pid], fill: mem.Fill}
		return t.write
	}
	if err := pages.Load(r.ctx, r.image, fresh, sink, r.tick); err != nil {
		return err
	}
	return pages.Load(r.ctx, r.image, again, sink, func(int) {})
}

func touches(c *imagepb.Chunk, ranges []pages.Range) bool {
	for _, e := range pages.FromExtents(c.Extents) {
		if len(pages.Within(ranges, e.Start, e.End)) > 0 {
			return true
		}
	}
	return false
}

// target is a process that pages of a chunk are for.
type target struct {
	all    bool // its own chunks; else only some ranges of another's
	only   []pages.Range
	except []pages.Range // what it has inherited
	fill   pages.Sink
}

// missing returns what the target is to be given of a range.
func (t *target) missing(r pages.Range) []pages.Range {
	want := []pages.Range{r}
	if !t.all {
		want = pages.Within(t.only, r.Start, r.End)
	}
	return pages.Subtract(want, pages.Within(t.except, r.Start, r.End))
}

func (t *target) write(b []byte, addr uint64) error {
	for _, r := range t.missing(pages.Range{Start: addr, End: addr + uint64(len(b))}) {
		if err := t.fill(b[r.Start-addr:r.End-addr], r.Start); err != nil {
			return err
		}
	}
	return nil
}

// targets lists, for the chunks of each process, the processes that they are for.
func (r *restorer) targets(memories map[int32]*pages.Memory) map[int32][]*target {
	except := map[int32][]pages.Range{}
	all := map[int32][]*target{}
	for _, p := range r.live() {
		if i := r.heritage.of[p.node]; i != nil {
			except[p.pb.Pid] = rangesOf(i.have)
		}
		all[p.pb.Pid] = []*target{{all: true, except: except[p.pb.Pid], fill: memories[p.pb.Pid].Fill}}
	}
	for _, s := range r.image.Index().Shared {
		if mem := memories[s.Pid]; mem != nil {
			all[s.From] = append(all[s.From], &target{only: pages.FromExtents(s.Extents), except: except[s.Pid], fill: mem.Fill})
		}
	}
	return all
}

// keep leaves a mapping as it was inherited, but for what the process does not
// have there and for its protection.
func (p *proc) keep(s *script, v *imagepb.Vma, drop []pages.Range) error {
	for _, d := range drop {
		s.add("drop inherited pages", unix.SYS_MADVISE, d.Start, d.Len(), unix.MADV_DONTNEED)
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	if v.Prot != unix.PROT_READ|unix.PROT_WRITE {
		s.add(fmt.Sprintf("protect %#x", v.Start), unix.SYS_MPROTECT, v.Start, v.End-v.Start, uint64(v.Prot))
	}
	return nil
}
