// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/pty"
)

// terminal is a pseudo-terminal that the job opened in its own devpts.
type terminal struct {
	pb     *imagepb.Pty
	master *file
	slave  *file // one of those that lead to it
}

// Device numbers (Documentation/admin-guide/devices.txt).
const (
	ttyMajor     = 5
	devTTYMinor  = 0
	ptmxMinor    = 2
	ptsMajor     = 136
	ptsMajors    = 8
	minorsPerPts = 256
)

func isMaster(st *unix.Stat_t) bool {
	return unix.Major(st.Rdev) == ttyMajor && unix.Minor(st.Rdev) == ptmxMinor
}
func isDevTTY(st *unix.Stat_t) bool {
	return unix.Major(st.Rdev) == ttyMajor && unix.Minor(st.Rdev) == devTTYMinor
}

func isPts(dev uint64) bool {
	return unix.Major(dev) >= ptsMajor && unix.Major(dev) < ptsMajor+ptsMajors
}

// ptsNumber is the N of /dev/pts/N.
func ptsNumber(dev uint64) uint32 {
	return (unix.Major(dev)-ptsMajor)*minorsPerPts + unix.Minor(dev)
}

// refuseTerminal says why a terminal cannot be carried: only what a job opens in
// a devpts of its own can have the same number elsewhere. Without namespaces a job has
// none, and its terminals have other numbers where they must.
func (f *file) refuseTerminal() string {
	if ids.Shim() {
		return ""
	}
	const host = "a terminal of the host, other than the one that the job was started with, cannot be carried"
	var theirs, ours unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/root/dev/pts", f.hostPid), &theirs) != nil ||
		unix.Stat("/dev/pts", &ours) == nil && theirs.Dev == ours.Dev {
		return host
	}
	if isPts(f.st.Rdev) && f.st.Dev != theirs.Dev {
		return host
	}
	return ""
}

// describeTerminal notes one description of a terminal. What belongs to the
// terminal itself is asked later, when all of its descriptors are known.
func (d *Dump) describeTerminal(f *file) error {
	f.pb.Path = f.link
	fd, err := f.borrow()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f.pb.Kind = imagepb.OpenFile_PTY_SLAVE
	if isMaster(&f.st) {
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err != nil {
			return fmt.Errorf("which terminal it is: %w", err)
		}
		f.pb.Kind, f.pb.Pty = imagepb.OpenFile_PTY_MASTER, d.terminal(uint32(n))
		d.terminals[f.pb.Pty].master = f
		return nil
	}
	// Files of a terminal that was hung up answer every ioctl with EIO (tty_io.c).
	dev, err := unix.IoctlGetInt(fd, tiocgdev)
	if errors.Is(err, unix.EIO) {
		f.pb.HungUp = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("which terminal it is: %w", err)
	}
	rdev := decodeDev(uint32(dev))
	if isDevTTY(&f.st) {
		f.pb.Kind = imagepb.OpenFile_DEV_TTY
	}
	if !isPts(rdev) {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: a terminal of the host cannot be carried", f))
		return nil
	}
	f.pb.Pty = d.terminal(ptsNumber(rdev))
	t := d.terminals[f.pb.Pty]
	t.slave = f
	if isPts(f.st.Rdev) {
		t.pb.Mode = f.st.Mode & 0o7777
	}
	return nil
}

const tiocgdev = 0x80045432 // TIOCGDEV

// decodeDev is the reverse of the kernel's new_encode_dev.
func decodeDev(dev uint32) uint64 {
	return unix.Mkdev((dev>>8)&0xfff, dev&0xff|(dev>>12)&0xfff00)
}

func (d *Dump) terminal(number uint32) uint32 {
	for i, t := range d.terminals {
		if t.pb.Number == number {
			return uint32(i)
		}
	}
	t := &terminal{pb: &imagepb.Pty{Number: number, Mode: 0o620}}
	d.terminals = append(d.terminals, t)
	d.meta.Ptys = append(d.meta.Ptys, t.pb)
	return uint32(len(d.terminals) - 1)
}

// collectTerminals asks every terminal for its state and for what waits in it.
func (d *Dump) collectTerminals() error {
	for _, t := range d.terminals {
		if t.master == nil {
			d.files.refused = append(d.files.refused, fmt.Sprintf("%s: the other side of this terminal is outside the job", t.slave))
			continue
		}
		err := d.collectTerminal(t)
		if errors.Is(err, pty.ErrPacketStatus) {
			d.files.refused = append(d.files.refused, fmt.Sprintf("%s: /dev/pts/%d: %v", t.master, t.pb.Number, err))
		} else if err != nil {
			return fmt.Errorf("%s: /dev/pts/%d: %w", t.master, t.pb.Number, err)
		}
	}
	return nil
}

func (d *Dump) collectTerminal(t *terminal) error {
	master, err := t.master.borrow()
	if err != nil {
		return err
	}
	defer unix.Close(master)
	s, err := pty.Read(master, t.slave != nil)
	if err != nil {
		return err
	}
	if s.Termios.Line != 0 {
		d.files.refused = append(d.files.refused, fmt.Sprintf("%s: line discipline %d cannot be carried", t.master, s.Termios.Line))
		return nil
	}
	t.pb.Locked, t.pb.Packet, t.pb.Opened = s.Locked, s.Packet, s.Opened
	t.pb.Window = []uint32{uint32(s.Window.Row), uint32(s.Window.Col), uint32(s.Window.Xpixel), uint32(s.Window.Ypixel)}
	t.pb.Termios = encodeTermios(&s.Termios)
	t.pb.Session, t.pb.Foreground = d.sessionOf(s.Session), d.groupOf(s.Foreground)
	if !s.Opened {
		return nil // to open the slave now, and close it, would hang the master up
	}
	return d.peekTerminal(t, master, s)
}

// peekTerminal copies what waits in both directions. An exclusive terminal can be
// opened by nobody, so it is not exclusive for that moment.
func (d *Dump) peekTerminal(t *terminal, master int, s pty.State) error {
	if t.slave != nil {
		fd, err := t.slave.borrow()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		excl, err := unix.IoctlGetInt(fd, tiocgexcl)
		if err != nil {
			return err
		}
		if t.pb.Exclusive = uint32(excl) != 0; t.pb.Exclusive {
			if err := unix.IoctlSetInt(fd, unix.TIOCNXCL, 0); err != nil {
				return err
			}
			defer func() { _ = unix.IoctlSetInt(fd, unix.TIOCEXCL, 0) }()
		}
	}
	slave, err := pty.OpenPeer(master, s.Locked)
	if err != nil {
		return fmt.Errorf("open it: %w", err)
	}
	defer unix.Close(slave)
	q, err := pty.Peek(master, slave, s)
	t.pb.Lines, t.pb.Partial, t.pb.Output = q.Lines, q.Partial, q.Output
	return err
}

const tiocgexcl = 0x80045440 // TIOCGEXCL

func encodeTermios(t *unix.Termios) *imagepb.Termios {
	return &imagepb.Termios{
		Iflag: t.Iflag, Oflag: t.Oflag, Cflag: t.Cflag, Lflag: t.Lflag, Cc: t.Cc[:], Ispeed: t.Ispeed, Ospeed: t.Ospeed,
	}
}

// modes are those of a terminal that the job was given, nil of anything else.
func (f *file) modes() *imagepb.Termios {
	if !isTerminal(&f.st) {
		return nil
	}
	fd, err := f.borrow()
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return nil // hung up
	}
	return encodeTermios(t)
}

// sessionOf is the job's number of a session that we know by the host's.
func (d *Dump) sessionOf(host int) int32 {
	for _, p := range d.frozen.Processes {
		if all := p.Status.NSsid; len(all) > 0 && all[0] == host && host != 0 {
			return int32(ids.Virtual(last(all)))
		}
	}
	return 0
}

// groupOf is the same of a process group; 0 if nobody is left of it.
func (d *Dump) groupOf(host int) int32 {
	for _, p := range d.frozen.Processes {
		if all := p.Status.NSpgid; len(all) > 0 && all[0] == host && host != 0 {
			return int32(ids.Virtual(last(all)))
		}
	}
	return 0
}

// refuseDevice says why a character device with a state cannot be carried.
func (f *file) refuseDevice() string {
	switch {
	case isMaster(&f.st), isDevTTY(&f.st), isPts(f.st.Rdev):
		return f.refuseTerminal()
	case isTerminal(&f.st) && strings.HasPrefix(f.link, "/dev/"):
		return "a console or serial line cannot be carried"
	}
	return refuseKind(f.link)
}
