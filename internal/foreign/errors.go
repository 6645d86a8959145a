// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/store"
	"github.com/esky-hpc/esky/plugin"
)

// failure is an error of a provider that is also one that the monitor knows.
type failure struct {
	is *plugin.Error
	as error
}

func (f *failure) Error() string   { return f.is.Text }
func (f *failure) Unwrap() []error { return []error{f.is, f.as} }

// monitorError gives an error of a provider the type by which the monitor knows what
// to do, its exit status, and its hint.
func monitorError(err error) error {
	var e *plugin.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	f := &failure{is: e}
	code := monitor.ExitCannot
	switch e.Kind {
	case plugin.Exec:
		f.as = &engine.ExecError{Status: e.Status, Err: e}
		return f
	case plugin.Refused:
		f.as = &engine.RefusedError{}
	case plugin.Changed:
		f.as = &engine.ChangedError{}
	case plugin.Busy:
		f.as = &engine.TakenError{}
	case plugin.Host:
		f.as = &engine.MismatchError{}
	case plugin.Ended:
		f.as, code = &engine.JobEndedError{}, monitor.ExitNotFound
	case plugin.Lost:
		f.as, code = &engine.TracerError{Err: e}, monitor.ExitInternal
	case plugin.Damaged:
		f.as, code = &image.DamagedError{Err: e}, monitor.ExitDamaged
	case plugin.Storage:
		f.as, code = errors.Join(store.ErrNotWritable, syscall.ENOSPC), monitor.ExitNotWritable
	case plugin.Usage:
		code = monitor.ExitUsage
	case plugin.NotFound:
		code = monitor.ExitNotFound
	case plugin.Internal:
		code = monitor.ExitInternal
	}
	if f.as == nil {
		f.as = errOther
	}
	return &monitor.Error{Code: code, Hint: e.Hint, Err: f}
}

var errOther = errors.New("error of a provider")

func ownerOf(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
