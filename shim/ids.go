// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"debug/elf"
	"fmt"
	"sync"
)

// IDsLibrary returns the bytes of libesky-ids.so, which shows the processes of a
// job without namespaces the numbers they know; nil if it was not built in.
func IDsLibrary() []byte { return file("libesky-ids.so") }

// Spin returns the program that uses up process numbers (src/spin.c), or nil.
func Spin() []byte { return file("esky-spin") }

func file(name string) []byte {
	b, err := built.ReadFile("build/" + name)
	if err != nil {
		return nil
	}
	return b
}

// InstallIDs does for IDsLibrary what Install does for Library.
func InstallIDs(dir string) (string, error) { return installAs(dir, IDsLibrary(), IDsName()) }

// IDsName is the file name that InstallIDs gives it. Where a process has a file of
// this name mapped, IDsTable holds for it.
func IDsName() string { return idsName() }

var idsName = sync.OnceValue(func() string { return nameOf("libesky-ids", IDsLibrary()) })

// IDsTable is where in the library the table lies that src/ids.h tells of, counted
// from its load base.
func IDsTable() (uint64, error) { return idsSymbol("esky_ids") }

// IDsNeeds is where the word lies in which the library notes what a process has that
// translation does not serve.
func IDsNeeds() (uint64, error) { return idsSymbol("esky_needs") }

// IDsTidOffset is where the word lies that tells how far from a thread's %fs libc keeps
// its number, and IDsHeld where IDsHeldLen addresses of words are in which locks may
// have such numbers (src/ids_lock.c).
func IDsTidOffset() (uint64, error) { return idsSymbol("esky_tid_offset") }
func IDsHeld() (uint64, error)      { return idsSymbol("esky_held") }

// IDsHeldLen is ESKY_IDS_HELD of src/ids.h.
const IDsHeldLen = 4096

// IDsExe is where the path of the program lies, IDsExeLen bytes with a NUL, for a
// process of which the kernel does not know it any more.
func IDsExe() (uint64, error) { return idsSymbol("esky_exe") }

// IDsExeLen is ESKY_IDS_EXE of src/ids.h.
const IDsExeLen = 4096

// Bits of that word (src/ids.h).
const (
	NeedsNumbers    = 1 // it has more locks with owners than the library could note
	NeedsSemaphores = 4 // System V semaphores
	NeedsQueues     = 8 // System V message queues
	NeedsSegments   = 16
)

func idsSymbol(name string) (uint64, error) {
	all, err := idsSymbols()
	if err != nil {
		return 0, err
	}
	at, ok := all[name]
	if !ok {
		return 0, fmt.Errorf("libesky-ids.so has no symbol %s", name)
	}
	return at, nil
}

var idsSymbols = sync.OnceValues(func() (map[string]uint64, error) {
	lib := IDsLibrary()
	if lib == nil {
		return nil, ErrNotBuilt
	}
	f, err := elf.NewFile(bytes.NewReader(lib))
	if err != nil {
		return nil, fmt.Errorf("parse libesky-ids.so: %w", err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("read symbols of libesky-ids.so: %w", err)
	}
	all := map[string]uint64{}
	for _, s := range symbols {
		all[s.Name] = s.Value
	}
	return all, nil
})
