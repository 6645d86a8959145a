// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"io/fs"
	"testing"
)

// TestAllProcesses reads whatever this machine runs: no file that the kernel
// writes may be an error.
func TestAllProcesses(t *testing.T) {
	pids, err := Pids()
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, pid := range pids {
		if err := readEverything(pid); err != nil {
			if Gone(err) || errors.Is(err, fs.ErrPermission) {
				continue
			}
			t.Errorf("pid %d: %v", pid, err)
			continue
		}
		read++
	}
	if read == 0 {
		t.Error("not one process could be read, not even this one")
	}
}

func readEverything(pid int) error {
	fds, err := Fds(pid)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		if _, err := ReadFdInfo(pid, fd); err != nil && !Gone(err) {
			return err
		}
	}
	tids, err := Tasks(pid)
	if err != nil {
		return err
	}
	for _, tid := range append(tids, 0) {
		if err := readThread(pid, tid); err != nil && !Gone(err) {
			return err
		}
	}
	_, err1 := ReadMaps(pid)
	_, err2 := ReadSmaps(pid)
	_, err3 := ReadTimers(pid)
	_, err4 := Children(pid)
	_, err5 := ReadAuxv(pid)
	return firstError(err1, err2, err3, err4, err5)
}

func readThread(pid, tid int) error {
	_, err1 := ReadStat(pid, tid)
	_, err2 := ReadStatus(pid, tid)
	_, err3 := ReadSched(pid, tid)
	return firstError(err1, err2, err3)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
