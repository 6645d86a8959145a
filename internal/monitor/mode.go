// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
)

// warnOfNumbers tells at the start of a job without namespaces, where that was asked
// for, that its program needs its old process numbers to be free at a resume.
func (m *monitor) warnOfNumbers() {
	if m.cfg.Mode != engine.ModeShim {
		return
	}
	path, err := exec.LookPath(m.command[0])
	if err != nil {
		return // the start will say so
	}
	if why := host.NeedsNumbers(path); why != "" {
		m.note(Event{Level: Warning, Event: "mode", Text: fmt.Sprintf(
			"%s %s: without namespaces it can be resumed only where its old process numbers are free", path, why)})
	}
}

// inMode starts or resumes the job in the mode that was asked for. If none was,
// it is namespaces, and where the host forbids them the other, which costs
// something that the user is told.
func (m *monitor) inMode(launch func(mode string) error) error {
	if m.cfg.Mode != "" {
		return launch(m.cfg.Mode)
	}
	err := launch(engine.ModeNamespace)
	var forbidden *engine.NoNamespacesError
	if !errors.As(err, &forbidden) {
		return err
	}
	m.note(Event{Level: Warning, Event: "mode", Text: fmt.Sprintf(
		"%v: %s runs in shim mode, in which programs that are static or written in Go may not be resumed (`esky-wrap doctor` says more)",
		forbidden.Err, m.key)})
	return launch(engine.ModeShim)
}
