// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
)

// makeMappings replaces the address space that the process has from the seed
// by its own, still empty.
func (p *proc) makeMappings(r *restorer) error {
	var kept []pages.Range
	for _, v := range p.pb.Vmas {
		if _, ok := r.heritage.keeps(p.node, v); ok {
			kept = append(kept, pages.Range{Start: v.Start, End: v.End})
		}
	}
	if err := p.clear(kept); err != nil {
		return err
	}
	if err := p.moveVDSO(); err != nil {
		return err
	}
	return p.mapAll(r)
}

// clear unmaps all but the stub, what the kernel provides, and what is to be kept.
func (p *proc) clear(keep []pages.Range) error {
	maps, err := procfs.ReadMaps(p.host)
	if err != nil {
		return err
	}
	if len(maps) == 0 {
		return fmt.Errorf("it has no memory any more: %w", tracee.ErrGone)
	}
	s := p.script()
	for i := range maps {
		m := &maps[i]
		if m.Start >= p.stub && m.End <= p.stub+stubLen || isKernels(m.Path) {
			continue
		}
		for _, rest := range pages.Subtract([]pages.Range{{Start: m.Start, End: m.End}}, keep) {
			s.add("munmap", unix.SYS_MUNMAP, rest.Start, rest.Len())
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
	}
	return s.do()
}

func isKernels(path string) bool {
	switch path {
	case "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]":
		return true
	}
	return false
}

// moveVDSO moves the vDSO and its data to where the image has them: by way of
// another place, since old and new may overlap.
func (p *proc) moveVDSO() error {
	maps, err := procfs.ReadMaps(p.host)
	if err != nil {
		return err
	}
	var have []procfs.Mapping
	for _, m := range maps {
		if isKernels(m.Path) && m.Path != "[vsyscall]" {
			have = append(have, m)
		}
	}
	var want []*imagepb.Vma
	for _, v := range p.pb.Vmas {
		if v.Kind == imagepb.Vma_VDSO || v.Kind == imagepb.Vma_VVAR {
			want = append(want, v)
		}
	}
	if len(want) == 0 { // the program unmapped it
		s := p.script()
		for i := range have {
			s.add("munmap", unix.SYS_MUNMAP, have[i].Start, have[i].Size())
		}
		return s.do()
	}
	if err := sameLayout(have, want); err != nil {
		return err
	}
	if have[0].Start == want[0].Start {
		return p.findInsn(want)
	}
	span := have[len(have)-1].End - have[0].Start
	aside, err := roomFor(maps, want, span)
	if err != nil {
		return err
	}
	s := p.script()
	for i := range have {
		to := aside + have[i].Start - have[0].Start
		s.add("move vdso aside", unix.SYS_MREMAP, have[i].Start, have[i].Size(), have[i].Size(), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, to)
	}
	for i, v := range want {
		from := aside + have[i].Start - have[0].Start
		s.add("move vdso", unix.SYS_MREMAP, from, have[i].Size(), have[i].Size(), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, v.Start)
	}
	if err := s.do(); err != nil {
		return err
	}
	return p.findInsn(want)
}

// sameLayout checks that the pieces are the same, in the same order, at the
// same distances: the code reaches its data relative to itself.
func sameLayout(have []procfs.Mapping, want []*imagepb.Vma) error {
	same := len(have) == len(want)
	for i := 0; same && i < len(have); i++ {
		name := want[i].Name
		if want[i].Kind == imagepb.Vma_VDSO {
			name = "[vdso]"
		}
		same = have[i].Path == name && have[i].Size() == want[i].End-want[i].Start &&
			have[i].Start-have[0].Start == want[i].Start-want[0].Start
	}
	if !same {
		var is, was string
		for i := range have {
			is += fmt.Sprintf(" %s %#x", have[i].Path, have[i].Size())
		}
		for _, v := range want {
			was += fmt.Sprintf(" %v %s %#x", v.Kind, v.Name, v.End-v.Start)
		}
		return fmt.Errorf("the kernel's vDSO is laid out otherwise than on the host of the checkpoint: here%s, there%s", is, was)
	}
	return nil
}

// roomFor finds a place where nothing is mapped now and where the new vDSO is
// not to be.
func roomFor(maps []procfs.Mapping, want []*imagepb.Vma, span uint64) (uint64, error) {
	busy := []pages.Range{{Start: want[0].Start, End: want[len(want)-1].End}}
	for i := range maps {
		busy = append(busy, pages.Range{Start: maps[i].Start, End: maps[i].End})
	}
	for at := uint64(1 << 30); at < highest; at += 1 << 30 {
		if !slices.ContainsFunc(busy, func(b pages.Range) bool { return at < b.End && b.Start < at+span }) {
			return at, nil
		}
	}
	return 0, fmt.Errorf("no room for the vDSO")
}

// findInsn notes a syscall instruction that stays when the stub goes.
func (p *proc) findInsn(want []*imagepb.Vma) error {
	for _, v := range want {
		if v.Kind != imagepb.Vma_VDSO {
			continue
		}
		code := make([]byte, v.End-v.Start)
		if err := tracee.ReadMemory(p.host, v.Start, code); err != nil {
			return err
		}
		if off := tracee.FindSyscallInsn(code); off >= 0 {
			p.insn = v.Start + uint64(off)
			return nil
		}
	}
	return fmt.Errorf("no system call instruction in the vDSO")
}

// mapAll makes all other mappings, the files' in groups, each file opened once.
func (p *proc) mapAll(r *restorer) error {
	s := p.script()
	opened := ""
	for _, v := range p.pb.Vmas {
		if v.Kind == imagepb.Vma_VDSO || v.Kind == imagepb.Vma_VVAR {
			continue
		}
		key, path := "", ""
		drop, kept := r.heritage.keeps(p.node, v)
		if v.Kind == imagepb.Vma_FILE && !kept {
			path = r.files.now(v.Path)
			key = fmt.Sprint(v.Path, v.Shared && hasFlag(v, "mw"))
		} else if r.isReadOnlyView(v) {
			path = fmt.Sprintf("/proc/self/fd/%d", r.stageObject(v.Object))
			key = path
		}
		if key != opened || s.full() {
			if opened != "" {
				s.add("close", unix.SYS_CLOSE, first)
			}
			if err := s.do(); err != nil {
				return err
			}
			if key != "" {
				p.open(s, v, path)
			}
			opened = key
		}
		if kept {
			if err := p.keep(s, v, drop); err != nil {
				return err
			}
			continue
		}
		if v.Kind == imagepb.Vma_OBJECT && r.meta.Objects[v.Object].Kind == imagepb.Object_SYSV {
			if err := p.attach(r, v); err != nil {
				return fmt.Errorf("attach %s: %w", r.meta.Objects[v.Object].Name, err)
			}
			continue
		}
		if v.HugePageSize != 0 {
			if err := p.mapHuge(r, v); err != nil {
				return err
			}
			continue
		}
		p.mmap(s, r, v)
	}
	if opened != "" {
		s.add("close", unix.SYS_CLOSE, first)
	}
	return s.do()
}

// isReadOnlyView says that memory of a memfd is mapped so that it can never be
// written to. Another mapping would not let the memfd be sealed against writing.
func (r *restorer) isReadOnlyView(v *imagepb.Vma) bool {
	return v.Kind == imagepb.Vma_OBJECT && v.Shared && !hasFlag(v, "mw") && r.meta.Objects[v.Object].Kind == imagepb.Object_MEMFD
}

// open opens a file to be mapped. A shared mapping that may become writable
// needs it open for writing (mmap(2)).
func (p *proc) open(s *script, v *imagepb.Vma, path string) {
	mode := uint64(unix.O_RDONLY)
	if v.Shared && hasFlag(v, "mw") {
		mode = unix.O_RDWR
	}
	s.add("open "+v.Path, unix.SYS_OPENAT, atFdCwd, s.string(path), mode, 0)
}

func (p *proc) mmap(s *script, r *restorer, v *imagepb.Vma) {
	flags := uint64(unix.MAP_FIXED_NOREPLACE | unix.MAP_PRIVATE)
	if v.Shared {
		flags = unix.MAP_FIXED_NOREPLACE | unix.MAP_SHARED
	}
	fd, offset := ^uint64(0), uint64(0)
	switch v.Kind {
	case imagepb.Vma_FILE:
		fd, offset = first, v.Offset
	case imagepb.Vma_OBJECT:
		if fd, offset = r.stageObject(v.Object), v.Offset; r.isReadOnlyView(v) {
			fd = first
		}
	default:
		flags |= unix.MAP_ANONYMOUS
	}
	if hasFlag(v, "dp") {
		flags = flags&^unix.MAP_TYPE | unix.MAP_DROPPABLE
	}
	if hasFlag(v, "gd") {
		flags |= unix.MAP_GROWSDOWN
	}
	if hasFlag(v, "nr") {
		flags |= unix.MAP_NORESERVE
	}
	length := v.End - v.Start
	s.add(fmt.Sprintf("map %#x %s", v.Start, v.Path), unix.SYS_MMAP, v.Start, length, uint64(v.Prot), flags, fd, offset)
	for flag, advice := range earlyAdvice {
		if hasFlag(v, flag) {
			s.add("madvise", unix.SYS_MADVISE, v.Start, length, advice)
		}
	}
}

func hasFlag(v *imagepb.Vma, flag string) bool {
	return strings.Contains(" "+v.Flags+" ", " "+flag+" ")
}

// load fills the memory of all processes and objects from the page data.
func (r *restorer) load() error {
	memories := map[int32]*pages.Memory{}
	for _, p := range r.live() {
		mem, err := pages.OpenMemory(p.host)
		if err != nil {
			return err
		}
		defer mem.Close()
		memories[p.pb.Pid] = mem
	}
	targets := r.targets(memories)
	sink := func(c *imagepb.Chunk) pages.Sink {
		if c.Pid != 0 {
			return toAll(targets[c.Pid])
		}
		if g, ok := r.segments[c.Object]; ok {
			return g.fill
		}
		f := r.objects[c.Object]
		if f == nil {
			return nil
		}
		size := r.meta.Objects[c.Object].Size // which may end within a page
		return func(b []byte, at uint64) error {
			_, err := f.WriteAt(b[:min(uint64(len(b)), size-min(at, size))], int64(at))
			return err
		}
	}
	var fresh, again []int
	for i, c := range r.image.Index().Chunks {
		switch {
		case !r.loaded[i]:
			fresh = append(fresh, i)
		case needed(c, targets[c.Pid]):
			again = append(again, i)
		}
	}
	if err := pages.Load(r.ctx, r.image, fresh, sink, r.tick); err != nil {
		return err
	}
	return pages.Load(r.ctx, r.image, again, sink, func(int) {})
}

// toAll writes to each of some processes what it needs; nil for none.
func toAll(targets []*target) pages.Sink {
	if len(targets) == 0 {
		return nil
	}
	return func(b []byte, addr uint64) error {
		for _, t := range targets {
			if err := t.write(b, addr); err != nil {
				return err
			}
		}
		return nil
	}
}

// needed says whether anybody lacks pages of a chunk.
func needed(c *imagepb.Chunk, targets []*target) bool {
	for _, e := range pages.FromExtents(c.Extents) {
		for _, t := range targets {
			if len(t.missing(e)) > 0 {
				return true
			}
		}
	}
	return false
}

// setMm tells the kernel where the parts of the program are: the heap's end,
// the arguments that ps shows, the executable (prctl(2), PR_SET_MM_MAP). The
// executable can be named only when no mapping of the old one is left.
func (p *proc) setMm(r *restorer) error {
	s := p.script()
	exe := ^uint32(0)
	s.add("open "+p.pb.Exe, unix.SYS_OPENAT, atFdCwd, s.string(p.pb.Exe), unix.O_RDONLY, 0)
	if s.do() == nil {
		exe = first
	} else {
		r.note("pid %d: its executable %s is not there: /proc/%d/exe will name another file", p.pb.Pid, p.pb.Exe, p.pb.Pid)
	}
	err := p.setMmMap(s, exe)
	p.exeNamed = err == nil && exe == first
	if exe == first && ids.Shim() && errors.Is(err, unix.EPERM) {
		// Only who has CAP_CHECKPOINT_RESTORE may name it.
		s := p.script()
		s.add("close", unix.SYS_CLOSE, first)
		err = p.setMmMap(s, ^uint32(0))
	}
	return err
}

func (p *proc) setMmMap(s *script, exe uint32) error {
	mm := p.pb.Mm
	auxv := s.bytes(mm.Auxv)
	desc := s.words(mm.StartCode, mm.EndCode, mm.StartData, mm.EndData, mm.StartBrk, mm.Brk, mm.StartStack,
		mm.ArgStart, mm.ArgEnd, mm.EnvStart, mm.EnvEnd, auxv, uint64(len(mm.Auxv))|uint64(exe)<<32)
	const mmMapLen = 13 * 8
	s.add("set the memory map", unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, desc, mmMapLen, 0)
	if exe == first {
		s.add("close", unix.SYS_CLOSE, first)
	}
	return s.do()
}
