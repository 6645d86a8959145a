// SPDX-License-Identifier: Apache-2.0

// Package ids relates the process and thread numbers that a job knows to those
// that the kernel knows, where a resumed job could not be given its old numbers
// (shim mode: docs/engine.md). The same table says by how much the job's clocks
// differ from the host's.
//
// The table does not change while a job runs: new processes and threads have one
// number. It is written by whoever starts or resumes the job, into the processes
// that have the preload library and into a file for the programs that they will
// execute; shim/src/ids.h has its layout. A process of ours serves one job, so
// the functions here know of one table, which is empty in namespace mode.
package ids

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Most is how many numbers the preload library has room for.
const Most = 8192

// Variable names the file with the table in the environment of a job.
const Variable = "ESKY_IDS"

// FileSuffix is added to the path of a job's status for the file with its table.
const FileSuffix = ".ids"

// Pair is a number as the job knows it and as the kernel does.
type Pair struct{ Virtual, Real int32 }

// Table is what a job in shim mode has to be told.
type Table struct {
	Init      int           // host pid of the init, which the job knows as 1
	Monotonic time.Duration // the job's clock less the host's
	Boottime  time.Duration
	Pairs     []Pair
	// Former are numbers that were given for a while only, to who made a socket or
	// sent a message in the name of a process: the job sees who that was.
	Former []Pair
	Exe    map[int]string // by virtual pid: the executable, where /proc shows another
}

var current *Table

// Use makes a table that of the job which this process serves.
func Use(t *Table) { current = t }

// Current is the table of the job which this process serves, nil without one.
func Current() *Table { return current }

// Shim says that the job lives without namespaces.
func Shim() bool { return current != nil }

// Virtual is a number as the job knows it.
func Virtual(realID int) int { return current.Virtual(realID) }

// Real is a number of the job as the kernel knows it.
func Real(virtual int) int { return current.Real(virtual) }

// Shift is by how much the job's clocks are ahead of the kernel's.
func Shift() (monotonic, boottime time.Duration) {
	if current == nil {
		return 0, 0
	}
	return current.Monotonic, current.Boottime
}

// Exe is the executable of a process that /proc does not tell, or "".
func Exe(virtual int) string {
	if current == nil {
		return ""
	}
	return current.Exe[virtual]
}

// Virtual is a number as the job knows it.
func (t *Table) Virtual(realID int) int {
	if t == nil {
		return realID
	}
	if realID == t.Init {
		return 1
	}
	for _, pairs := range [][]Pair{t.Pairs, t.Former} {
		for _, p := range pairs {
			if int(p.Real) == realID {
				return int(p.Virtual)
			}
		}
	}
	return realID
}

// Real is a number of the job as the kernel knows it.
func (t *Table) Real(virtual int) int {
	if t == nil {
		return virtual
	}
	if virtual == 1 {
		return t.Init
	}
	for _, p := range t.Pairs {
		if int(p.Virtual) == virtual {
			return int(p.Real)
		}
	}
	return virtual
}

// InProc is a path below /proc/PID or /proc/PID/task/TID with its numbers changed
// by as, which is Virtual or Real; any other path is itself.
func InProc(path string, as func(int) int) string {
	parts := strings.Split(path, "/") // "", "proc", PID, "task", TID
	if current == nil || len(parts) < 3 || parts[1] != "proc" {
		return path
	}
	numbers := []int{2}
	if len(parts) > 4 && parts[3] == "task" {
		numbers = append(numbers, 4)
	}
	for _, i := range numbers {
		if n, err := strconv.Atoi(parts[i]); err == nil {
			parts[i] = strconv.Itoa(as(n))
		}
	}
	return strings.Join(parts, "/")
}

// Layout of the encoded table: struct esky_ids of shim/src/ids.h.
const (
	magic     = 0x31736469 // "ids1"
	headerLen = 32
)

// Encode gives the table as the preload library reads it: a header, the pairs by
// virtual number, the pairs by real number. Of several with one number it takes
// the first, so former ones stand behind.
func (t *Table) Encode() ([]byte, error) {
	if len(t.Pairs) > Most {
		return nil, fmt.Errorf("%d process and thread numbers, the preload library has room for %d", len(t.Pairs), Most)
	}
	all := slices.Concat(t.Pairs, t.Former)
	all = all[:min(len(all), Most)]
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, uint32(len(all)))
	b = le.AppendUint64(b, uint64(t.Init))
	b = le.AppendUint64(b, uint64(t.Monotonic))
	b = le.AppendUint64(b, uint64(t.Boottime))
	for _, key := range []func(Pair) int32{
		func(p Pair) int32 { return p.Virtual }, func(p Pair) int32 { return p.Real },
	} {
		sorted := slices.Clone(all)
		slices.SortStableFunc(sorted, func(a, b Pair) int { return int(key(a)) - int(key(b)) })
		for _, p := range sorted {
			b = le.AppendUint32(le.AppendUint32(b, uint32(p.Virtual)), uint32(p.Real))
		}
	}
	return b, nil
}

// Decode is the reverse of Encode.
func Decode(b []byte) (*Table, error) {
	le := binary.LittleEndian
	if len(b) < headerLen || le.Uint32(b) != magic {
		return nil, fmt.Errorf("no table of process numbers")
	}
	n := int(le.Uint32(b[4:]))
	if n > Most || len(b) < headerLen+n*16 {
		return nil, fmt.Errorf("half a table of process numbers")
	}
	t := &Table{Init: int(le.Uint64(b[8:])), Monotonic: time.Duration(le.Uint64(b[16:])), Boottime: time.Duration(le.Uint64(b[24:]))}
	for i := range n {
		at := b[headerLen+i*8:]
		t.Pairs = append(t.Pairs, Pair{int32(le.Uint32(at)), int32(le.Uint32(at[4:]))})
	}
	return t, nil
}

// Write puts the table where programs that the job executes find it. The file is
// replaced by a rename: a program that starts at the moment reads one or the other.
func (t *Table) Write(path string) error {
	b, err := t.Encode()
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write the table of process numbers: %w", err)
	}
	return os.Rename(tmp, path)
}

// Read reads what Write wrote.
func Read(path string) (*Table, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Decode(b)
}
