// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/store"
	"github.com/esky-hpc/esky/plugin"
)

// wrap gives an error of the engine its kind.
func wrap(err error) error {
	var own *plugin.Error
	if err == nil || errors.As(err, &own) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &plugin.Error{Kind: kindOf(err), Text: err.Error()}
	var exec *engine.ExecError
	switch {
	case errors.As(err, &exec):
		e.Status = exec.Status
	case e.Kind == plugin.Host:
		e.Hint = "run `esky-wrap doctor`: it says what to ask the administrator for"
	case e.Kind == plugin.Changed:
		e.Hint = "put the files back, or resume with files accept"
	case e.Kind == plugin.Storage:
		e.Hint = "make room, or choose another place"
	}
	return e
}

func kindOf(err error) plugin.Kind {
	switch {
	case errors.As(err, new(*engine.RefusedError)):
		return plugin.Refused
	case errors.As(err, new(*engine.JobEndedError)):
		return plugin.Ended
	case errors.As(err, new(*engine.TracerError)):
		return plugin.Lost
	case errors.As(err, new(*engine.ExecError)):
		return plugin.Exec
	case errors.As(err, new(*image.DamagedError)), errors.As(err, new(*image.UnsafeError)):
		return plugin.Damaged
	case errors.As(err, new(*engine.ChangedError)):
		return plugin.Changed
	case errors.As(err, new(*engine.TakenError)):
		return plugin.Busy
	// Before the errnos: too many namespaces is ENOSPC too (clone(2)).
	case errors.As(err, new(*engine.MismatchError)), errors.As(err, new(*engine.NoNamespacesError)), errors.As(err, new(*image.VersionError)):
		return plugin.Host
	case errors.Is(err, store.ErrNotWritable), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EROFS):
		return plugin.Storage
	case errors.Is(err, fs.ErrNotExist):
		return plugin.NotFound
	}
	return plugin.Internal
}
