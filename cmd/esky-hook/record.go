// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/guard"
)

// record is what a checkpoint interface keeps beside esky's own images: how to
// start the same esky-wrap again. It is the user's own text: only a process that
// is the user reads what is in it.
type record struct {
	Exe  string   // esky-wrap
	Argv []string // as it was called, and by which name and store its job is found
	Env  []string
	Dir  string
	Out  string // standard output and error, if they were files
	Err  string
}

// longestRecord bounds a record: an environment and a command line may have some
// hundred kilobytes (execve(2)).
const longestRecord = 1 << 20

// recordOf describes a running esky-wrap of this user's.
func recordOf(m monitorState) (record, error) {
	proc := "/proc/" + strconv.Itoa(m.Pid)
	var r record
	var errs [5]error
	r.Exe, errs[0] = os.Readlink(proc + "/exe")
	r.Dir, errs[1] = os.Readlink(proc + "/cwd")
	var argv, environ []byte
	argv, errs[2] = os.ReadFile(proc + "/cmdline")
	environ, errs[3] = os.ReadFile(proc + "/environ")
	r.Argv, r.Env = words(argv), words(environ)
	r.Out, r.Err = fileOf(proc+"/fd/1"), fileOf(proc+"/fd/2")
	// The scheduler may give the job another id, and then its name would be
	// another one. A flag that the line has itself comes later, and says the same.
	if len(r.Argv) > 1 && r.Argv[1] == "run" {
		r.Argv = slices.Insert(r.Argv, 2, "--store", m.Store, "--name", m.Job)
	} else {
		errs[4] = fmt.Errorf("process %d is no esky-wrap run", m.Pid)
		if len(r.Argv) > 1 && r.Argv[1] == "resume" {
			r.Argv, errs[4] = slices.Insert(r.Argv, 2, "--store", m.Store), nil
		}
	}
	return r, errors.Join(errs[:]...)
}

func words(text []byte) []string {
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// fileOf is the file that a descriptor is, if it is one that can be opened again.
func fileOf(fd string) string {
	path, err := os.Readlink(fd)
	st, statErr := os.Stat(fd)
	if err != nil || statErr != nil || !st.Mode().IsRegular() {
		return ""
	}
	return path
}

// exec becomes that esky-wrap, with its old environment but for what the
// scheduler itself sets: nothing of a daemon's environment gets into the job.
func (r record) exec() error {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return !schedulers(kv) })
	for _, kv := range r.Env {
		name, _, _ := strings.Cut(kv, "=")
		if _, set := os.LookupEnv(name); !set || !schedulers(kv) {
			env = append(env, kv)
		}
	}
	if err := os.Chdir(r.Dir); err != nil {
		return err
	}
	r.connect(1, r.Out)
	r.connect(2, r.Err)
	if err := unix.Exec(r.Exe, r.Argv, env); err != nil {
		return fmt.Errorf("execute %s: %w", r.Exe, err)
	}
	return nil
}

// schedulers tells whether a variable is one that PBS or LSF sets.
func schedulers(kv string) bool {
	return strings.HasPrefix(kv, "PBS_") || strings.HasPrefix(kv, "LSB_") || strings.HasPrefix(kv, "LS_")
}

// connect opens a file again as a standard stream, where the scheduler gave none:
// it is closed, or /dev/null.
func (r record) connect(fd int, path string) {
	var st, null unix.Stat_t
	if path == "" || unix.Stat("/dev/null", &null) != nil || unix.Fstat(fd, &st) == nil && st.Rdev != null.Rdev {
		return
	}
	file, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return // what it says is lost; the job's own output is not
	}
	_ = unix.Dup2(file, fd) // the same
	_ = unix.Close(file)
}

func (r record) marshal() ([]byte, error) {
	text, err := json.Marshal(r)
	if err == nil && len(text) > longestRecord {
		return nil, fmt.Errorf("command line and environment have %d bytes, at most %d are kept", len(text), longestRecord)
	}
	return text, err
}

// execRecord starts what a record says. The caller is the user.
func execRecord(text []byte) error {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	return r.exec()
}

func execRecordAt(path string) error {
	text, err := readRecord(path)
	if err != nil {
		return err
	}
	return execRecord(text)
}

// readRecord reads one in a directory of this process' user.
func readRecord(path string) ([]byte, error) {
	d, err := guard.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadFile(filepath.Base(path), longestRecord)
}

// writeRecord writes one there.
func writeRecord(path string, text []byte) error {
	d, err := guard.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.WriteFile(filepath.Base(path), text)
}
