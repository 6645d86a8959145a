// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/plugin"
)

// What a provider and a keeper say to each other, as lines of JSON: a request, then
// answers, of which the last one has Done or Err. A checkpoint with Stop has one more
// request, finish, and one more answer. Who hangs up does not want it any more.
type request struct {
	Checkpoint *plugin.CheckpointOptions `json:"checkpoint,omitempty"`
	Signal     *signalRequest            `json:"signal,omitempty"`
	Finish     *finishRequest            `json:"finish,omitempty"`
}

type signalRequest struct {
	Signal syscall.Signal `json:"signal"`
	All    bool           `json:"all"`
}

type finishRequest struct {
	End bool `json:"end"`
}

type answer struct {
	Progress *plugin.Progress `json:"progress,omitempty"`
	Image    *plugin.Image    `json:"image,omitempty"`
	Err      *plugin.Error    `json:"err,omitempty"`
	Done     bool             `json:"done,omitempty"`
}

// serve takes requests. The socket has no file (unix(7), abstract): the state
// directory may be on a file system that has none, and its path too long for one.
func (k *Keeper) serve() (socket string, err error) {
	socket = "@esky-keeper-" + rand.Text()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				time.Sleep(100 * time.Millisecond) // no descriptors, for the moment
				continue
			}
			go k.converse(conn.(*net.UnixConn))
		}
	}()
	return socket, nil
}

// peer is who is at the other end.
func peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	err = errors.Join(raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}), err)
	return cred, err
}

func (k *Keeper) converse(conn *net.UnixConn) {
	defer conn.Close()
	if cred, err := peer(conn); err != nil || cred.Uid != 0 && int(cred.Uid) != os.Getuid() {
		return
	}
	var r request
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	if in.Decode(&r) != nil {
		return
	}
	tell := func(a answer) { _ = out.Encode(a) } // who hangs up is noticed by reading
	var err error
	switch {
	case r.Signal != nil:
		err = k.signal(*r.Signal)
	case r.Checkpoint != nil:
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		finish := make(chan bool, 1)
		go func() {
			var r request
			if err := in.Decode(&r); err != nil || r.Finish == nil {
				cancel(context.Canceled)
				return
			}
			finish <- r.Finish.End
		}()
		err = k.checkpoint(ctx, &Saving{Options: *r.Checkpoint, tell: tell, finish: finish, doom: k.doom})
	default:
		return
	}
	tell(answer{Err: AsError(err), Done: err == nil})
}

// checkpoint has the trade make a checkpoint.
func (k *Keeper) checkpoint(ctx context.Context, s *Saving) error {
	if !k.saving.TryLock() {
		return plugin.Errorf(plugin.Busy, "wait for it, or finish it", "a checkpoint of the job is under way")
	}
	defer k.saving.Unlock()
	ctx, doomed := context.WithCancelCause(ctx)
	defer doomed(nil)
	go func() {
		select {
		case <-k.doom:
			doomed(plugin.Errorf(plugin.Ended, "", "the job was killed"))
		case <-ctx.Done():
		}
	}()
	s.Ctx, s.Began = ctx, time.Now()
	return k.trade.Checkpoint(s)
}

// Saving is a checkpoint under way.
type Saving struct {
	Options plugin.CheckpointOptions
	Ctx     context.Context // ends when nobody wants it any more
	Began   time.Time

	tell   func(answer)
	finish <-chan bool
	doom   <-chan struct{}
}

// Progress tells how far it is.
func (s *Saving) Progress(p plugin.Progress) { s.tell(answer{Progress: &p}) }

// Failed tells that there will be no image, before the trade is done with it.
func (s *Saving) Failed(err error) { s.tell(answer{Err: AsError(err)}) }

// Saved tells that the image is complete. With Stop it waits for the host, which puts
// the image in its place: true, the job is to end.
func (s *Saving) Saved(i plugin.Image) (end bool) {
	s.tell(answer{Image: &i})
	if !s.Options.Stop {
		return false
	}
	select {
	case end := <-s.finish:
		return end
	case <-s.doom:
		return true
	case <-s.Ctx.Done():
		return false
	}
}
