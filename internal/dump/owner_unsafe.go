// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
)

// Types of owners, F_SETOWN_EX of fcntl(2).
const ownerGroup = 2

// describeOwner notes whom the kernel tells by a signal of what happens to the
// file: F_SETOWN and F_SETSIG of fcntl(2). Regular files have that only for leases.
func (f *file) describeOwner(d *Dump) error {
	mode := f.st.Mode & unix.S_IFMT
	if (mode == unix.S_IFREG && !f.leased() || mode == unix.S_IFDIR) && f.info.Flags&unix.O_ASYNC == 0 || f.info.Flags&unix.O_PATH != 0 {
		return nil
	}
	fd, err := f.borrow()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	sig, err := unix.FcntlInt(uintptr(fd), unix.F_GETSIG, 0)
	if err != nil {
		return fmt.Errorf("signal of the descriptor: %w", err)
	}
	var owner struct{ kind, pid int32 }
	if _, _, errno := unix.Syscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETOWN_EX, uintptr(unsafe.Pointer(&owner))); errno != 0 {
		return fmt.Errorf("owner of the descriptor: %w", errno)
	}
	f.pb.OwnerSig = uint32(sig)
	if owner.pid != 0 {
		f.pb.OwnerKind, f.pb.OwnerPid = uint32(owner.kind), int32(d.insidePid(int(owner.pid), owner.kind == ownerGroup))
	}
	return nil
}

// insidePid is the number in the job of a process, thread or group of the host;
// 0 if it is none of the job's.
func (d *Dump) insidePid(host int, group bool) int {
	for _, p := range d.frozen.Live() {
		if group && len(p.Status.NSpgid) > 0 && p.Status.NSpgid[0] == host {
			return ids.Virtual(last(p.Status.NSpgid))
		}
		for _, t := range p.Threads {
			if !group && t.HostTid == host {
				return t.Tid
			}
		}
	}
	return 0
}
