// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/store"
)

// Exit statuses of our own (docs/exit-codes.md). The job's own status passes
// through untouched.
const (
	ExitUsage       = 64 // EX_USAGE
	ExitDamaged     = 65 // EX_DATAERR: the image is damaged and no older one is good
	ExitNotFound    = 66 // EX_NOINPUT: no such image or job
	ExitCannot      = 69 // EX_UNAVAILABLE: this host, or this job, cannot
	ExitInternal    = 70 // EX_SOFTWARE
	ExitNotWritable = 73 // EX_CANTCREAT: the store cannot be written
	ExitAgain       = 75 // EX_TEMPFAIL: checkpointed (or busy elsewhere): run it again
)

// Error is an error that knows its exit status. Hint, if any, is what to do.
type Error struct {
	Code int
	Err  error
	Hint string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an Error from a sentence.
func Fail(code int, hint, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
}

// Code is the exit status for an error: the only place that decides it.
func Code(err error) int {
	var own *Error
	var exec *engine.ExecError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &exec):
		return exec.Status
	case errors.As(err, new(*image.DamagedError)), errors.As(err, new(*image.UnsafeError)):
		return ExitDamaged
	case errors.Is(err, store.ErrNoJob), errors.As(err, new(*engine.NoProcessError)), errors.As(err, new(*engine.JobEndedError)):
		return ExitNotFound
	// Before the errnos: too many namespaces is ENOSPC too (clone(2)).
	case errors.As(err, new(*engine.RefusedError)), errors.As(err, new(*engine.MismatchError)),
		errors.As(err, new(*engine.NoNamespacesError)), errors.As(err, new(*image.VersionError)),
		errors.As(err, new(*engine.ChangedError)), errors.As(err, new(*engine.TakenError)):
		return ExitCannot
	case errors.Is(err, store.ErrNotWritable), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT),
		errors.Is(err, syscall.EROFS):
		return ExitNotWritable
	}
	return ExitInternal
}

// Hint is what the user can do about an error, or empty.
func Hint(err error) string {
	var own *Error
	if errors.As(err, &own) && own.Hint != "" {
		return own.Hint
	}
	switch {
	case errors.As(err, new(*engine.NoNamespacesError)):
		return "run `esky-wrap doctor`: it says what to ask the administrator for"
	case errors.As(err, new(*engine.MismatchError)):
		return "resume it on a host that matches; `esky-wrap match` tells which do"
	case errors.As(err, new(*engine.ChangedError)):
		return "put the files back, or resume with --files=accept"
	case errors.As(err, new(*image.VersionError)):
		return "resume it with a newer esky-wrap"
	case errors.Is(err, store.ErrNotWritable), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room, or choose another place with --store"
	}
	return ""
}
