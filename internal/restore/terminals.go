// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/pty"
)

// On stage each pair of terminals has its master and, if the slave was ever
// open, a slave of ours. Behind the stage is room for the terminals that are
// opened only to get to the numbers behind theirs.

// fillers is how many numbers of terminals are below the highest one.
func (r *restorer) fillers() uint64 {
	most := uint64(0)
	for _, p := range r.meta.Ptys {
		most = max(most, uint64(p.Number)+1)
	}
	return most
}

// openPtys makes the pairs. A new terminal gets the lowest number that is free. In a
// devpts of the job's own all are; in that of the host, without namespaces, somebody
// may have one that is wanted, and then the terminal gets another.
func (r *restorer) openPtys() error {
	r.pts = make([]uint32, len(r.meta.Ptys))
	missing := map[uint32]uint32{}
	for i, p := range r.meta.Ptys {
		missing[p.Number] = uint32(i)
	}
	var spare []uint32 // numbers that are not wanted; their masters lie behind the stage
	at := func() uint64 { return r.stageEnd() + uint64(len(spare)) }
	for next := uint64(0); len(missing) > 0 && next < r.fillers(); {
		n, err := r.openMaster("/dev/ptmx", at())
		if err != nil {
			return err
		}
		if i, want := missing[n]; !want {
			spare = append(spare, n)
		} else if err := r.placePty(i, n, at()); err != nil {
			return err
		} else {
			delete(missing, n)
		}
		next = uint64(n) + 1
	}
	for i, p := range r.meta.Ptys {
		if _, is := missing[p.Number]; !is {
			continue
		}
		if !ids.Shim() {
			return fmt.Errorf("/dev/pts/%d is not to be had: does this host let jobs have terminals of their own?", p.Number)
		}
		if len(spare) == 0 {
			n, err := r.openMaster("/dev/ptmx", at())
			if err != nil {
				return err
			}
			spare = append(spare, n)
		}
		n := spare[len(spare)-1]
		spare = spare[:len(spare)-1]
		r.note("/dev/pts/%d is somebody else's here: that terminal of the job is /dev/pts/%d now", p.Number, n)
		if err := r.placePty(uint32(i), n, at()); err != nil {
			return err
		}
	}
	s := r.seed.script()
	s.add("close_range", unix.SYS_CLOSE_RANGE, r.stageEnd(), uint64(^uint32(0)), 0)
	return s.do()
}

// openMaster makes a pair and returns its number.
func (r *restorer) openMaster(path string, at uint64) (uint32, error) {
	s := r.seed.script()
	s.add("open "+path, unix.SYS_OPENAT, atFdCwd, s.string(path), unix.O_RDWR|unix.O_NOCTTY, 0)
	s.put(at)
	if err := s.do(); err != nil {
		return 0, fmt.Errorf("make a pseudo-terminal: %w", err)
	}
	master, err := r.borrow(at)
	if err != nil {
		return 0, err
	}
	defer unix.Close(master)
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	return uint32(n), err
}

// placePty makes the pair with the number n, whose master is at from, that of the image.
func (r *restorer) placePty(i, n uint32, from uint64) error {
	r.pts[i] = n
	s := r.seed.script()
	if path := r.ptmxPath(i); path != "/dev/ptmx" { // the number is free again for a moment
		s.add("close", unix.SYS_CLOSE, from)
		if err := s.do(); err != nil {
			return err
		}
		again, err := r.openMaster(path, from)
		if err != nil {
			return err
		}
		if again != n {
			return fmt.Errorf("%s gave terminal %d, wanted %d", path, again, n)
		}
	}
	s.add("dup3", unix.SYS_DUP3, from, r.stagePty(i, 0), 0)
	s.add("close", unix.SYS_CLOSE, from)
	if err := s.do(); err != nil {
		return err
	}
	if err := r.openPty(i, r.meta.Ptys[i]); err != nil {
		return fmt.Errorf("/dev/pts/%d: %w", n, err)
	}
	return nil
}

// ptmxPath is the name under which the master was opened.
func (r *restorer) ptmxPath(i uint32) string {
	for _, f := range r.meta.OpenFiles {
		if f.Kind == imagepb.OpenFile_PTY_MASTER && f.Pty == i {
			return f.Path
		}
	}
	return "/dev/ptmx"
}

// openPty opens the slave of a new pair and fills both queues.
func (r *restorer) openPty(i uint32, p *imagepb.Pty) error {
	master, err := r.borrow(r.stagePty(i, 0))
	if err != nil {
		return err
	}
	defer unix.Close(master)
	state := ptyState(p)
	plain := state
	plain.Packet, plain.Locked, plain.Exclusive = false, false, false
	if err := pty.Set(master, -1, plain); err != nil {
		return err
	}
	if !p.Opened {
		return nil
	}
	s := r.seed.script()
	s.add("open the slave", unix.SYS_OPENAT, atFdCwd, s.string(r.ptsPath(i)), unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	s.put(r.stagePty(i, 1))
	if err := s.do(); err != nil {
		return err
	}
	slave, err := r.borrow(r.stagePty(i, 1))
	if err != nil {
		return err
	}
	defer unix.Close(slave)
	if err := unix.Fchmod(slave, p.Mode); err != nil {
		return fmt.Errorf("set its permissions: %w", err)
	}
	return pty.Fill(master, slave, plain, pty.Queues{Lines: p.Lines, Partial: p.Partial, Output: p.Output})
}

func (r *restorer) ptsPath(i uint32) string { return fmt.Sprintf("/dev/pts/%d", r.pts[i]) }

// setStreamModes gives the terminal that the job is now on the modes that the
// program had set on the one before; not that of a shell in whose background the
// job is.
func (r *restorer) setStreamModes(f *imagepb.OpenFile) {
	if f.Termios == nil {
		return
	}
	fd, err := r.borrow(uint64(f.Stdio)) // its file may be another user's
	if err == nil {
		defer unix.Close(fd)
		_, err = unix.IoctlGetTermios(fd, unix.TCGETS2)
	}
	if err != nil {
		if f.Stdio == 0 {
			r.note("standard input was a terminal and is none now: the job reads what it is given here")
		}
		return
	}
	if st, err := procfs.ReadStat(r.init, 0); err != nil || st.Tpgid != st.Pgrp {
		return
	}
	t := decodeTermios(f.Termios)
	_ = unix.IoctlSetTermios(fd, unix.TCSETS2, &t) // another kind of line may not know them
}

func ptyState(p *imagepb.Pty) pty.State {
	s := pty.State{Locked: p.Locked, Packet: p.Packet, Exclusive: p.Exclusive}
	if w := p.Window; len(w) == 4 {
		s.Window = unix.Winsize{Row: uint16(w[0]), Col: uint16(w[1]), Xpixel: uint16(w[2]), Ypixel: uint16(w[3])}
	}
	s.Termios = decodeTermios(p.Termios)
	return s
}

func decodeTermios(t *imagepb.Termios) unix.Termios {
	modes := unix.Termios{
		Iflag: t.GetIflag(), Oflag: t.GetOflag(), Cflag: t.GetCflag(), Lflag: t.GetLflag(), Ispeed: t.GetIspeed(), Ospeed: t.GetOspeed(),
	}
	copy(modes.Cc[:], t.GetCc())
	return modes
}

// openTerminal opens one description of a terminal.
func (r *restorer) openTerminal(s *script, f *imagepb.OpenFile, at uint64) {
	flags := uint64(f.Flags) &^ creation
	status := flags & unix.O_NONBLOCK
	switch {
	case f.Kind == imagepb.OpenFile_PTY_MASTER:
		s.add("dup3", unix.SYS_DUP3, r.stagePty(f.Pty, 0), at, 0)
		s.add("fcntl", unix.SYS_FCNTL, at, unix.F_SETFL, status)
	case f.HungUp:
		r.openHungUp(s, flags, at)
	case f.Kind == imagepb.OpenFile_DEV_TTY:
		// The seed leads a session without a terminal. It takes this one, which is
		// what /dev/tty then is, and gives it up again.
		slave := r.stagePty(f.Pty, 1)
		s.add("take the terminal", unix.SYS_IOCTL, slave, unix.TIOCSCTTY, 0)
		s.add("open /dev/tty", unix.SYS_OPENAT, atFdCwd, s.string("/dev/tty"), flags, 0)
		s.put(at)
		s.add("give the terminal up", unix.SYS_IOCTL, slave, unix.TIOCNOTTY)
	default:
		s.add("open the terminal", unix.SYS_OPENAT, atFdCwd, s.string(r.ptsPath(f.Pty)), flags|unix.O_NOCTTY, 0)
		s.put(at)
	}
}

// openHungUp opens the slave of a terminal whose master is then closed.
func (r *restorer) openHungUp(s *script, flags, at uint64) {
	master := r.stageEnd()
	s.add("open /dev/ptmx", unix.SYS_OPENAT, atFdCwd, s.string("/dev/ptmx"), unix.O_RDWR|unix.O_NOCTTY, 0)
	s.put(master)
	s.add("unlock", unix.SYS_IOCTL, master, unix.TIOCSPTLCK, s.words(0))
	s.add("open its slave", unix.SYS_IOCTL, master, unix.TIOCGPTPEER, flags|unix.O_NOCTTY)
	s.put(at)
	s.add("close", unix.SYS_CLOSE, master)
}

// closePtys sets, when all is open, what would have been in the way of that.
func (r *restorer) closePtys() error {
	for i, p := range r.meta.Ptys {
		master, err := r.borrow(r.stagePty(uint32(i), 0))
		if err != nil {
			return err
		}
		slave := -1
		if p.Opened {
			if slave, err = r.borrow(r.stagePty(uint32(i), 1)); err != nil {
				unix.Close(master)
				return err
			}
		}
		err = pty.Set(master, slave, ptyState(p))
		unix.Close(master)
		if slave >= 0 {
			unix.Close(slave)
		}
		if err != nil {
			return fmt.Errorf("/dev/pts/%d: %w", p.Number, err)
		}
	}
	return nil
}

// takeTerminal makes a terminal the controlling one of a new session: before its
// leader has children, who inherit it.
func (r *restorer) takeTerminal(p *proc) error {
	for i, t := range r.meta.Ptys {
		if t.Session == 0 || int(t.Session) != p.node.Pid {
			continue
		}
		s := p.script()
		s.add(fmt.Sprintf("take /dev/pts/%d as its controlling terminal", t.Number), unix.SYS_IOCTL, r.stagePty(uint32(i), 1), unix.TIOCSCTTY, 0)
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// setForeground puts process groups into the foreground of their terminals. The
// signal that this sends to one in the background is blocked.
func (r *restorer) setForeground() error {
	for i, t := range r.meta.Ptys {
		if t.Session == 0 || t.Foreground == 0 || t.Foreground == t.Session {
			continue
		}
		for _, p := range r.procs {
			if p.node.Pid != int(t.Session) {
				continue
			}
			s := p.script()
			group := s.bytes(binary.LittleEndian.AppendUint32(nil, uint32(real(int(t.Foreground)))))
			s.add("tcsetpgrp", unix.SYS_IOCTL, r.stagePty(uint32(i), 1), unix.TIOCSPGRP, group)
			if err := s.do(); err != nil {
				return fmt.Errorf("/dev/pts/%d: group %d to the foreground: %w", t.Number, t.Foreground, err)
			}
		}
	}
	return nil
}
