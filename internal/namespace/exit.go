// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Exit is how the main process of a job ended.
type Exit struct {
	Code   int            // exit status; 0 if a signal ended it
	Signal syscall.Signal // that ended it, or 0
	Init   bool           // the signal was for the init, with which all processes end
}

// ExitOf is what a wait status says.
func ExitOf(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Signal: ws.Signal()}
	}
	return Exit{Code: ws.ExitStatus()}
}

// FromStatus is the exit with a status as shells show it, which a signal has caused
// if there is one.
func FromStatus(status int, signal syscall.Signal) Exit {
	if signal != 0 {
		return Exit{Signal: signal}
	}
	return Exit{Code: status}
}

// Status is the exit as shells show it: 128+n for signal n.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

// WriteExit writes an exit to a file, which is all there when it is there.
func WriteExit(path string, e Exit) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, fmt.Appendln(nil, e.Status(), int(e.Signal)), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// ReadExit reads what WriteExit wrote, or a status alone as earlier versions did.
func ReadExit(path string) (Exit, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Exit{}, err
	}
	var status, signal int
	if n, err := fmt.Sscan(string(b), &status, &signal); n == 0 {
		return Exit{}, fmt.Errorf("read %s: %w", path, err)
	}
	return FromStatus(status, syscall.Signal(signal)), nil
}
