// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	holderFile   = "state.json"
	doneFile     = "done.json"
	progressFile = "progress.json"
	tempPrefix   = ".temp-"
)

// Holder says who runs the job, for people and for commands that want to talk
// to the monitor. It may be out of date; only the lock tells who is alive.
type Holder struct {
	Token      Token
	Host       string
	BootID     string // /proc/sys/kernel/random/boot_id: whether the pids still mean anything
	Scheduler  string
	JobID      string // the scheduler's
	Attempt    int
	MonitorPid int
	InitPid    int    // of the job, as the host counts
	Socket     string // the monitor's control socket
	Local      string `json:",omitempty"` // where on Host images may be that the store has not
	Started    time.Time
	End        time.Time // of the time limit; zero: none known
	Command    []string
}

// DoneRecord says how the job ended. It is there for good: a job that has one
// is never run again.
type DoneRecord struct {
	Token   Token // of the incarnation; 0: not checked
	Status  int   // exit status as a shell shows it
	Time    time.Time
	Host    string
	Attempt int
}

// Progress guards against a job that resumes for ever and gets nowhere: what
// the last resume began with, and how many have done so in a row.
type Progress struct {
	Generation uint32        // that was resumed
	CPU        time.Duration // that the job had used until then
	Count      int
}

// SetHolder records the holder. One with the token of an older incarnation is
// refused with ErrStale.
func (s *Store) SetHolder(h Holder) error {
	if err := s.checkOptional(h.Token); err != nil {
		return err
	}
	return s.writeRecord(holderFile, h)
}

// Holder returns the last holder, nil before the first.
func (s *Store) Holder() (*Holder, error) { return readRecord[Holder](s, holderFile) }

// SetDone records, durably, that the job has ended. One with the token of an
// older incarnation is refused with ErrStale.
func (s *Store) SetDone(d DoneRecord) error {
	if err := s.checkOptional(d.Token); err != nil {
		return err
	}
	return s.writeRecord(doneFile, d)
}

// Done returns how the job ended, nil if it has not.
func (s *Store) Done() (*DoneRecord, error) { return readRecord[DoneRecord](s, doneFile) }

// SetProgress records, durably, what a resume begins with.
func (s *Store) SetProgress(p Progress) error { return s.writeRecord(progressFile, p) }

// Progress returns what SetProgress recorded last, zero before the first time.
func (s *Store) Progress() (Progress, error) {
	p, err := readRecord[Progress](s, progressFile)
	if p == nil || err != nil {
		return Progress{}, err
	}
	return *p, nil
}

func (s *Store) checkOptional(tok Token) error {
	if tok == 0 {
		return nil
	}
	return s.checkToken(tok)
}

// writeRecord replaces a file by one that is complete and durable.
func (s *Store) writeRecord(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	path, temp := s.path(name), s.path(fmt.Sprintf("%s%s.%d", tempPrefix, name, os.Getpid()))
	// ENOENT is the usual case; another error shows at the next step.
	_ = s.fs.Remove(temp)
	if err := s.fs.WriteNew(temp, append(b, '\n')); err != nil {
		_ = s.fs.Remove(temp) // on a full disk it is there, and empty
		return WriteError(path, err)
	}
	if err := s.fs.Rename(temp, path); err != nil {
		return WriteError(path, err)
	}
	if err := s.fs.Sync(s.dir); err != nil {
		return WriteError(path, err)
	}
	return nil
}

// maxRecord bounds what is read into memory.
const maxRecord = 1 << 20

func readRecord[T any](s *Store, name string) (*T, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = errors.New("too long")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	v := new(T)
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return v, nil
}
