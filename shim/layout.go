// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"debug/elf"
	"fmt"
	"sync"
)

// Symbols are places in the library, as offsets from its load base (the
// address at which offset 0 of the file is mapped).
type Symbols struct {
	Stub, StubEnd uint64
	// The record area and the state have pages of their own.
	StubArea, StubAreaSize uint64
	State                  uint64
}

type library struct {
	symbols Symbols
	stub    []byte
}

var parsed = sync.OnceValues(func() (library, error) {
	lib := Library()
	if lib == nil {
		return library{}, ErrNotBuilt
	}
	return parse(lib)
})

// Layout returns where the tracer's parts are in Library.
func Layout() (Symbols, error) {
	l, err := parsed()
	return l.symbols, err
}

// StubCode returns the stub's machine code, for processes that have not loaded
// the library. It is position-independent; see src/stub_amd64.S for how it is
// called. It returns nil where Layout returns an error.
func StubCode() []byte {
	l, err := parsed()
	if err != nil {
		return nil
	}
	return bytes.Clone(l.stub)
}

func parse(lib []byte) (library, error) {
	f, err := elf.NewFile(bytes.NewReader(lib))
	if err != nil {
		return library{}, fmt.Errorf("parse libesky.so: %w", err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return library{}, fmt.Errorf("read symbols of libesky.so: %w", err)
	}
	var l library
	found := map[string]*uint64{
		"esky_stub":      &l.symbols.Stub,
		"esky_stub_end":  &l.symbols.StubEnd,
		"esky_stub_area": &l.symbols.StubArea,
		"esky_state":     &l.symbols.State,
	}
	for _, s := range symbols {
		if at, ok := found[s.Name]; ok {
			*at = s.Value
			delete(found, s.Name)
		}
		if s.Name == "esky_stub_area" {
			l.symbols.StubAreaSize = s.Size
		}
	}
	for name := range found {
		return library{}, fmt.Errorf("libesky.so has no symbol %s", name)
	}
	l.stub, err = code(f, l.symbols.Stub, l.symbols.StubEnd)
	return l, err
}

// code returns the bytes that are loaded at [start, end).
func code(f *elf.File, start, end uint64) ([]byte, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || start < p.Vaddr || end > p.Vaddr+p.Filesz || end <= start {
			continue
		}
		b := make([]byte, end-start)
		if _, err := p.ReadAt(b, int64(start-p.Vaddr)); err != nil {
			return nil, fmt.Errorf("read %#x of libesky.so: %w", start, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("libesky.so loads nothing at %#x to %#x", start, end)
}
