// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// setDescriptors moves the process's descriptors from the stage to their
// places; then locks and epoll items, which belong to the final numbers. Of those
// that share their descriptors, one does it for all.
func (r *restorer) setDescriptors(p *proc) error {
	if p.pb.FilesOf != 0 && p.pb.FilesOf != p.pb.Pid {
		return nil
	}
	s := p.script()
	if p.pb.Pid == r.sealer() {
		r.sealObjects(s)
	}
	for _, fd := range p.pb.Fds {
		if isLate(r.meta.OpenFiles[fd.OpenFile]) {
			continue
		}
		flags := uint64(0)
		if fd.Cloexec {
			flags = unix.O_CLOEXEC
		}
		switch from := r.stageFile(fd.OpenFile); {
		case from != uint64(fd.Number):
			s.add("dup3", unix.SYS_DUP3, from, uint64(fd.Number), flags)
		case fd.Cloexec:
			s.add("fcntl", unix.SYS_FCNTL, from, unix.F_SETFD, unix.FD_CLOEXEC)
		}
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	if err := closeOthers(s, p.pb.Fds); err != nil {
		return err
	}
	if err := r.openLate(p); err != nil {
		return err
	}
	return r.setFileState(p)
}

// closeOthers closes what is on stage but not the process's own.
func closeOthers(s *script, fds []*imagepb.Fd) error {
	var own []uint64
	for _, fd := range fds {
		own = append(own, uint64(fd.Number))
	}
	slices.Sort(own)
	from := uint64(0)
	for _, n := range own {
		if from < n {
			s.add("close_range", unix.SYS_CLOSE_RANGE, from, n-1, 0)
		}
		from = n + 1
		if err := s.doIfFull(); err != nil {
			return err
		}
	}
	s.add("close_range", unix.SYS_CLOSE_RANGE, from, math.MaxUint32, 0)
	return s.do()
}

// openLate opens pidfds and files that tell of processes, each description once in
// each process that has it.
func (r *restorer) openLate(p *proc) error {
	at := map[uint32]uint64{}
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if !isLate(f) {
			continue
		}
		s, number, flags := p.script(), uint64(fd.Number), uint64(0)
		if fd.Cloexec {
			flags = unix.O_CLOEXEC
		}
		if from, ok := at[fd.OpenFile]; ok {
			s.add("dup3", unix.SYS_DUP3, from, number, flags)
		} else {
			open := s.addLate(f)
			if err := s.do(); err != nil {
				return err
			}
			if got := uint64(*open); got != number {
				s.add("dup3", unix.SYS_DUP3, got, number, flags)
				s.add("close", unix.SYS_CLOSE, got)
			} else if !fd.Cloexec {
				s.add("fcntl", unix.SYS_FCNTL, number, unix.F_SETFD, 0)
			}
			r.seek(s, f, number)
			at[fd.OpenFile] = number
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// sealer is the process that adds the seals: any that has the stage open.
func (r *restorer) sealer() int32 {
	any := r.live()[0].pb
	return cmp.Or(any.FilesOf, any.Pid)
}

func (r *restorer) setFileState(p *proc) error {
	s := p.script()
	for _, fd := range p.pb.Fds {
		f := r.meta.OpenFiles[fd.OpenFile]
		if f.Kind == imagepb.OpenFile_EPOLL && f.EpollPid == p.pb.Pid && r.once(fd.OpenFile) {
			for _, item := range f.Epoll {
				event := binary.LittleEndian.AppendUint32(nil, item.Events) // struct epoll_event is packed
				event = binary.LittleEndian.AppendUint64(event, item.Data)
				s.add("epoll_ctl", unix.SYS_EPOLL_CTL, uint64(fd.Number), unix.EPOLL_CTL_ADD, uint64(item.Fd), s.bytes(event))
				if err := s.doIfFull(); err != nil {
					return err
				}
			}
		}
		if r.ownerOnce(fd.OpenFile) {
			setOwner(s, fd.Number, f)
		}
		for _, l := range f.Locks {
			if l.Pid == p.pb.Pid {
				lock(s, fd.Number, f, l)
			}
			if err := s.doIfFull(); err != nil {
				return err
			}
		}
	}
	return s.do()
}

// once is true the first time for each description.
func (r *restorer) once(file uint32) bool {
	if r.done == nil {
		r.done = map[uint32]bool{}
	}
	was := r.done[file]
	r.done[file] = true
	return !was
}

// ownerOnce is once for the owners of descriptions.
func (r *restorer) ownerOnce(file uint32) bool {
	if r.owned == nil {
		r.owned = map[uint32]bool{}
	}
	was := r.owned[file]
	r.owned[file] = true
	return !was && r.meta.OpenFiles[file].Kind != imagepb.OpenFile_STDIO
}
