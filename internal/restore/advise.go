// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pages"
)

// VmFlags of proc_pid_smaps(5) and the advice of madvise(2) that sets them:
// early what helps the loading, late what concerns the future.
var (
	earlyAdvice = map[string]uint64{"hg": unix.MADV_HUGEPAGE, "nh": unix.MADV_NOHUGEPAGE}
	lateAdvice  = map[string]uint64{
		"dc": unix.MADV_DONTFORK, "wf": unix.MADV_WIPEONFORK, "dd": unix.MADV_DONTDUMP,
		"mg": unix.MADV_MERGEABLE, "rr": unix.MADV_RANDOM, "sr": unix.MADV_SEQUENTIAL,
	}
)

const guardInstall = 102 // MADV_GUARD_INSTALL

// advise sets what mappings are marked with; then it locks what was locked, and
// last of all seals what was sealed.
func (r *restorer) advise(p *proc, s *script) error {
	for _, v := range p.pb.Vmas {
		if v.Kind == imagepb.Vma_VVAR || v.Kind == imagepb.Vma_VDSO {
			continue
		}
		for flag, advice := range lateAdvice {
			if hasFlag(v, flag) {
				s.add("madvise", unix.SYS_MADVISE, v.Start, v.End-v.Start, advice)
			}
		}
		for _, g := range pages.FromExtents(v.Guards) { // which locked memory cannot get
			s.add("make a guard region", unix.SYS_MADVISE, g.Start, g.Len(), guardInstall)
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	if err := s.do(); err != nil {
		return err
	}
	p.nameMemory()
	if err := r.lock(p); err != nil {
		return err
	}
	return p.seal()
}

// nameMemory gives anonymous memory the names that the program gave it
// (PR_SET_VMA_ANON_NAME of prctl(2)). They are for people to read, and not every
// kernel has them.
func (p *proc) nameMemory() {
	for _, v := range p.pb.Vmas {
		name, ok := chosenName(v.Name)
		if !ok {
			continue
		}
		s := p.script()
		s.add("name memory", unix.SYS_PRCTL, unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME, v.Start, v.End-v.Start, s.string(name))
		if s.do() != nil {
			return
		}
	}
}

// chosenName takes a name out of what /proc/PID/maps shows.
func chosenName(shown string) (string, bool) {
	for _, kind := range []string{"[anon:", "[anon_shmem:"} {
		if name, ok := strings.CutPrefix(shown, kind); ok {
			return strings.CutSuffix(name, "]")
		}
	}
	return "", false
}

// lock locks memory as it was, as far as RLIMIT_MEMLOCK allows. mlock(2) marks
// memory that nobody may touch and then complains that it is not there.
func (r *restorer) lock(p *proc) error {
	refused := error(nil)
	for _, v := range p.pb.Vmas {
		if !hasFlag(v, "lo") || v.Kind == imagepb.Vma_VVAR || v.Kind == imagepb.Vma_VDSO {
			continue
		}
		how := uint64(0)
		if hasFlag(v, "lf") {
			how = unix.MLOCK_ONFAULT
		}
		s := p.script()
		s.add("mlock", unix.SYS_MLOCK2, v.Start, v.End-v.Start, how)
		switch err := s.do(); {
		case err == nil || v.Prot == unix.PROT_NONE && errors.Is(err, unix.ENOMEM):
		case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EPERM), errors.Is(err, unix.EAGAIN):
			refused = err
		default:
			return err
		}
	}
	if p.pb.LockFuture != 0 {
		s := p.script()
		s.add("mlockall", unix.SYS_MLOCKALL, uint64(p.pb.LockFuture))
		if err := s.do(); err != nil {
			refused = err
		}
	}
	if refused != nil {
		r.note("pid %d: not all memory that it had locked could be locked again: %v", p.pb.Pid, refused)
	}
	return nil
}

// seal forbids all later changes of mappings (mseal(2)).
func (p *proc) seal() error {
	s := p.script()
	for _, v := range p.pb.Vmas {
		if hasFlag(v, "sl") && v.Kind != imagepb.Vma_VVAR && v.Kind != imagepb.Vma_VDSO {
			s.add("mseal", unix.SYS_MSEAL, v.Start, v.End-v.Start, 0)
		}
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	return s.do()
}
