// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Kind tells a host what to make of an error.
type Kind string

// Kinds of errors.
const (
	Usage       Kind = "usage"       // what was asked makes no sense
	NotFound    Kind = "not-found"   // no such job, image or file
	Refused     Kind = "refused"     // the job has state that cannot be carried; it runs on
	Host        Kind = "host"        // this host cannot, another one may
	Changed     Kind = "changed"     // files of the job are not what they were
	Busy        Kind = "busy"        // something is taken: later perhaps
	Damaged     Kind = "damaged"     // the image is damaged: an older one may be good
	Ended       Kind = "ended"       // the job has ended by itself
	Exec        Kind = "exec"        // the program cannot be executed: Status is what a shell would say
	Storage     Kind = "storage"     // there is no room, or no right to write
	Lost        Kind = "lost"        // the job was lost: it is to be resumed from its last image
	Unsupported Kind = "unsupported" // the plugin does not have this call
	Broken      Kind = "broken"      // the plugin has died, hangs, or answers nonsense
	Internal    Kind = "internal"    // anything else
)

// Error is an error that keeps its kind and its hint over the wire.
type Error struct {
	Kind   Kind
	Text   string // one sentence, lower case, without a full stop
	Hint   string // what to do about it; may be empty
	Status int    // of kind Exec: 126 or 127
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(kind Kind, hint, format string, args ...any) *Error {
	return &Error{Kind: kind, Hint: hint, Text: fmt.Sprintf(format, args...)}
}

// KindOf is the kind of an error; Internal if it has none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// code says what of a kind gRPC can say, for plugins and hosts that know no more.
var code = map[Kind]codes.Code{
	Usage: codes.InvalidArgument, NotFound: codes.NotFound, Refused: codes.FailedPrecondition,
	Host: codes.PermissionDenied, Changed: codes.Aborted, Busy: codes.AlreadyExists, Damaged: codes.DataLoss,
	Ended: codes.OutOfRange, Exec: codes.InvalidArgument, Storage: codes.ResourceExhausted, Lost: codes.Internal,
	Unsupported: codes.Unimplemented, Broken: codes.Unavailable, Internal: codes.Internal,
}

var kinds = map[codes.Code]Kind{
	codes.InvalidArgument: Usage, codes.NotFound: NotFound, codes.FailedPrecondition: Refused,
	codes.PermissionDenied: Host, codes.Aborted: Changed, codes.AlreadyExists: Busy, codes.DataLoss: Damaged,
	codes.OutOfRange: Ended, codes.ResourceExhausted: Storage, codes.Unimplemented: Unsupported,
	codes.Unavailable: Broken,
}

// Names of the trailing metadata.
const (
	kindKey   = "esky-kind"
	hintKey   = "esky-hint-bin" // -bin: any bytes (gRPC over HTTP/2, "Custom-Metadata")
	statusKey = "esky-status"
)

// longestText bounds what an error may say: HTTP/2 headers are limited.
const longestText = 4096

// toWire makes a gRPC status of an error.
func toWire(ctx context.Context, err error) error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	default:
		e = &Error{Kind: Internal}
	}
	md := metadata.Pairs(kindKey, string(e.Kind))
	if e.Hint != "" {
		md.Set(hintKey, short(e.Hint))
	}
	if e.Status != 0 {
		md.Set(statusKey, strconv.Itoa(e.Status))
	}
	if err := grpc.SetTrailer(ctx, md); err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return status.Error(code[e.Kind], short(err.Error()))
}

func short(s string) string {
	if len(s) > longestText {
		return s[:longestText] + "…"
	}
	return s
}

// fromWire makes the error again that toWire was given.
func fromWire(ctx context.Context, err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, _ := status.FromError(err)
	switch s.Code() {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	e := &Error{Kind: Kind(first(trailer, kindKey)), Text: s.Message(), Hint: first(trailer, hintKey)}
	if _, known := code[e.Kind]; !known { // none, or one of a later version
		e.Kind = Internal
		if k, ok := kinds[s.Code()]; ok {
			e.Kind = k
		}
	}
	if n, err := strconv.Atoi(first(trailer, statusKey)); err == nil && n > 0 && n < 256 {
		e.Status = n
	}
	return e
}

func first(md metadata.MD, key string) string {
	if all := md.Get(key); len(all) > 0 {
		return all[0]
	}
	return ""
}
