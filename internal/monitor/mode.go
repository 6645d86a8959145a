// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"

	"github.com/esky-hpc/esky/internal/engine"
)

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
