// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/family"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Plan is what to do to make the job of an image, worked out before anything is
// touched.
type Plan struct {
	Meta *imagepb.Image
	Stub uint64 // address at which no process of the image has anything
	Tree *family.Tree
	// Stage is where each open file description is opened at first: at a number
	// that it alone has, in all processes, or above all numbers that the job uses.
	// The numbers from StageEnd on are not used for any.
	Stage    []uint64
	StageEnd uint64
}

// The stub's mapping in each process: a page of code, then the record area.
const (
	pageSize = 4096
	areaLen  = 1 << 20
	stubLen  = pageSize + areaLen
	lowest   = 1 << 20 // above any vm.mmap_min_addr
	highest  = 0x7ffffffff000 - 64<<20
	margin   = 1 << 20
)

// NewPlan works out how to make the job.
func NewPlan(meta *imagepb.Image) (*Plan, error) {
	p := &Plan{Meta: meta}
	var err error
	if p.Stub, err = freeAddress(meta.Processes); err != nil {
		return nil, err
	}
	p.setStage(meta)
	if p.Tree, err = family.Arrange(meta.Processes); err != nil {
		return nil, err
	}
	return p, nil
}

// setStage chooses the numbers of the stage. Those up to first+spare are not for
// it, since they must be free until all is in place.
func (p *Plan) setStage(meta *imagepb.Image) {
	const several = ^uint32(0)
	only := map[int32]uint32{} // by number, which description alone has it
	p.StageEnd = first + spare
	for _, proc := range meta.Processes {
		for _, fd := range proc.Fds {
			p.StageEnd = max(p.StageEnd, uint64(fd.Number)+1)
			if file, known := only[fd.Number]; known && file != fd.OpenFile {
				only[fd.Number] = several
			} else {
				only[fd.Number] = fd.OpenFile
			}
		}
	}
	p.Stage = make([]uint64, len(meta.OpenFiles))
	for _, proc := range meta.Processes {
		for _, fd := range proc.Fds {
			if fd.Number >= first+spare && only[fd.Number] == fd.OpenFile && p.Stage[fd.OpenFile] == 0 {
				p.Stage[fd.OpenFile] = uint64(fd.Number)
			}
		}
	}
	for i, at := range p.Stage {
		if at == 0 {
			p.Stage[i] = p.StageEnd
			p.StageEnd++
		}
	}
}

// freeAddress finds room for the stub that is free in all processes, with some
// space around it.
func freeAddress(procs []*imagepb.Process) (uint64, error) {
	type span struct{ start, end uint64 }
	var used []span
	for _, p := range procs {
		for _, v := range p.Vmas {
			used = append(used, span{v.Start, v.End})
		}
	}
	slices.SortFunc(used, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	at := uint64(lowest)
	for _, s := range append(used, span{highest, highest}) {
		if s.start > at && s.start-at >= stubLen+2*margin {
			return at + margin, nil
		}
		at = max(at, (s.end+pageSize-1)&^(pageSize-1))
	}
	return 0, fmt.Errorf("no room for %d bytes in the address spaces of the job", stubLen)
}
