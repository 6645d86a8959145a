// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"encoding/binary"
	"fmt"
)

// Magic begins the state in memory.
const Magic = "eskyshm1"

// ABI is the version of the state's meaning.
const ABI = 1

// Signals between the library and those outside; see esky_abi.h.
const (
	SignalService = 62 // SIGRTMAX-2, from the tracer to the service thread
	SignalRequest = 61 // SIGRTMAX-3, from the library to pid 1 of the namespace
)

// Values of State.Phase.
const (
	PhaseIdle   = 0
	PhaseBefore = 1
	PhaseReady  = 2
	PhaseAfter  = 3
)

// Values of State.Verdict.
const (
	VerdictUndecided = 0
	VerdictGoesOn    = 1
	VerdictResumed   = 2
)

// Offsets of the words that are written from outside.
const (
	OffGeneration = 12
	OffHold       = 16
	OffWaiting    = 24
	OffRequest    = 28
	OffTaken      = 32
	OffPublished  = 36
	OffResult     = 40
	OffService    = 48
	OffAsk        = 56
	OffPhase      = 60
	OffVerdict    = 64
)

// StateSize is the size of State in memory.
const StateSize = 72

// State mirrors struct esky_state of esky_abi.h, which says what each word
// means and who writes it.
type State struct {
	Magic      [8]byte
	ABI        uint32
	Generation uint32
	Hold       uint64
	Waiting    uint32
	Request    uint32
	Taken      uint32
	Published  uint32
	Result     int32
	Callbacks  uint32
	Service    uint64
	Ask        uint32
	Phase      uint32
	Verdict    uint32
	Reserved   uint32
}

// ParseState decodes what was read at Symbols.State.
func ParseState(b []byte) (State, error) {
	var s State
	if len(b) < StateSize {
		return s, fmt.Errorf("state of libesky.so: %d bytes, want %d", len(b), StateSize)
	}
	if _, err := binary.Decode(b[:StateSize], binary.LittleEndian, &s); err != nil {
		return s, fmt.Errorf("state of libesky.so: %w", err)
	}
	if string(s.Magic[:]) != Magic {
		return s, fmt.Errorf("state of libesky.so: magic is %q, want %q", s.Magic[:], Magic)
	}
	if s.ABI != ABI {
		return s, fmt.Errorf("state of libesky.so: version %d, this program knows %d", s.ABI, ABI)
	}
	return s, nil
}

// Held returns how many critical sections the process has open. pid is its
// own in its innermost pid namespace: a child of fork inherits the words.
func (s State) Held(pid int) int { return int(owned(s.Hold, pid)) }

// ServiceTID returns the thread that runs the process's callbacks, a tid of
// its own pid namespace, or 0 when there is none to be asked.
func (s State) ServiceTID(pid int) int {
	if s.Callbacks == 0 {
		return 0
	}
	return int(owned(s.Service, pid))
}

func owned(word uint64, pid int) uint32 {
	if word>>32 != uint64(pid) {
		return 0
	}
	return uint32(word)
}
