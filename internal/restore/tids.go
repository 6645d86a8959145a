// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/ids"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// libc has the kernel's number of each thread in its memory, and a lock that of its
// owner, which the kernel reads too if the lock is robust or priority-inheriting.
// Where threads of a job without namespaces get other numbers, these are written
// there. The library that translates has noted which locks are held
// (shim/src/ids_lock.c); those that libc has for itself are found by their looks.

// tidMask are the bits of a futex that are its owner's number (FUTEX_TID_MASK).
const tidMask = 0x3fffffff

// tids are the numbers that the kernel had for threads, and those that it has now.
type tids map[uint32]uint32

func (r *restorer) tids() tids {
	all := tids{}
	for _, p := range r.meta.Processes {
		for _, t := range p.Threads {
			if t.RawTid != 0 {
				all[uint32(t.RawTid)] = uint32(ids.Real(int(t.Tid)))
			}
		}
	}
	return all
}

// A word of a process that is to have another value.
type word struct {
	pid   int
	at    uint64
	value uint32
}

// renameThreads writes the new numbers. All words are read before any is written:
// processes share some, and a new number may be the old one of another thread.
func (r *restorer) renameThreads() error {
	known := r.tids()
	var words []word
	for _, p := range r.live() {
		base := libraryBase(p.pb)
		if base == 0 {
			continue
		}
		own, err := p.ownNumbers(base, known)
		if err != nil {
			return err
		}
		noted, err := p.notedOwners(base, known)
		if err != nil {
			return err
		}
		words = append(append(append(words, own...), noted...), p.libcOwners(known)...)
	}
	for _, w := range words {
		if err := tracee.WriteMemory(w.pid, w.at, binary.LittleEndian.AppendUint32(nil, w.value)); err != nil {
			return err
		}
	}
	return nil
}

// readWord reads a word of a process, if it is there.
func readWord(pid int, at uint64) (v uint32, ok bool) {
	b := make([]byte, 4)
	err := tracee.ReadMemory(pid, at, b)
	return binary.LittleEndian.Uint32(b), err == nil
}

// ownNumbers are the words in which libc has the number of each thread. The child of
// a vfork has its parent's.
func (p *proc) ownNumbers(base uint64, known tids) ([]word, error) {
	at, err := shim.IDsTidOffset()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8)
	if err := tracee.ReadMemory(p.host, base+at, b); err != nil {
		return nil, err
	}
	offset := binary.LittleEndian.Uint64(b)
	var all []word
	for _, t := range p.pb.Threads {
		regs, err := tracee.DecodeRegs(t.Gpregs)
		if err != nil {
			return nil, err
		}
		places := []uint64{regs.Fs_base + offset}
		if offset == 0 {
			places = placesOfNumber(t, regs.Fs_base)
		}
		for _, at := range places {
			if v, ok := readWord(p.host, at); ok && v == uint32(t.RawTid) && v != 0 {
				all = append(all, word{p.host, at, known[v]})
				break
			}
		}
	}
	return all, nil
}

// placesOfNumber are those where libc may have the number of a thread whose program
// has only just been executed, so that the library has not looked for it yet (find_tid
// of shim/src/ids.c): that which the kernel clears at the thread's end with glibc, the
// first words of its struct with musl.
func placesOfNumber(t *imagepb.Thread, self uint64) []uint64 {
	places := []uint64{t.ClearChildTid}
	for at := uint64(0); at < 128; at += 4 {
		places = append(places, self+at)
	}
	return places
}

// owner is a word that has a thread's number, with the new one, if it is one. The
// word may be gone: nobody notes that the memory of a lock was freed.
func (p *proc) owner(at uint64, known tids) []word {
	v, ok := readWord(p.host, at)
	now, is := known[v&tidMask]
	if !ok || !is {
		return nil
	}
	return []word{{p.host, at, v&^tidMask | now}}
}

// notedOwners are the words of locks that the library has noted.
func (p *proc) notedOwners(base uint64, known tids) (all []word, err error) {
	at, err := shim.IDsHeld()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 8*shim.IDsHeldLen)
	if err := tracee.ReadMemory(p.host, base+at, b); err != nil {
		return nil, err
	}
	for ; len(b) > 0; b = b[8:] {
		if at := binary.LittleEndian.Uint64(b); at != 0 {
			all = append(all, p.owner(at, known)...)
		}
	}
	return all, nil
}

// libcOwners are those of locks that glibc and its loader have for themselves, such
// as that of dlopen(3), which a thread may hold for long.
func (p *proc) libcOwners(known tids) (all []word) {
	end := uint64(0) // of their data that came last: behind it is what began as zeros
	for _, v := range p.pb.Vmas {
		name := filepath.Base(v.Path)
		of := strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "libc.so") || strings.HasPrefix(name, "libc-2")
		if v.Prot&unix.PROT_WRITE == 0 || !of && (v.Start != end || v.Kind != imagepb.Vma_ANON) {
			continue
		}
		end = 0
		if of {
			end = v.End
		}
		data := make([]byte, v.End-v.Start)
		if tracee.ReadMemory(p.host, v.Start, data) != nil {
			continue
		}
		for at := 0; at+lockLen <= len(data); at += 8 {
			if offset, is := looksHeld(data[at:]); is {
				all = append(all, p.owner(v.Start+uint64(at+offset), known)...)
			}
		}
	}
	return all
}

// lockLen is how much of a lock tells that it is held.
const lockLen = 32

// looksHeld says where the owner is in what may be a recursive mutex or an rwlock of
// glibc that somebody holds (struct_mutex.h, struct_rwlock.h).
func looksHeld(b []byte) (offset int, is bool) {
	const (
		lock, count, owner, users, kind = 0, 4, 8, 12, 16
		readers, writer, shared         = 0, 24, 28
		phase                           = 3 // a writer has it
	)
	at := func(offset int) uint32 { return binary.LittleEndian.Uint32(b[offset:]) }
	if n := at(lock); (n == 1 || n == 2) && at(count) > 0 && at(users) == 1 && at(kind) == 1 {
		return owner, true
	}
	return writer, at(readers)&phase == phase && at(writer) != 0 && at(shared) <= 1
}
