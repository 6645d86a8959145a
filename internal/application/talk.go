// SPDX-License-Identifier: Apache-2.0

package application

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

	"github.com/esky-hpc/esky/internal/freeze"
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
func (k *keeper) serve() (socket string, err error) {
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

func (k *keeper) converse(conn *net.UnixConn) {
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
	switch {
	case r.Signal != nil:
		err := k.signal(*r.Signal)
		tell(answer{Err: asError(err), Done: err == nil})
	case r.Checkpoint != nil:
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		finish := make(chan finishRequest, 1)
		go func() {
			var r request
			if err := in.Decode(&r); err != nil || r.Finish == nil {
				cancel(context.Canceled)
				return
			}
			finish <- *r.Finish
		}()
		k.checkpoint(ctx, *r.Checkpoint, tell, finish)
	}
}

// signal delivers a signal. SIGKILL to all ends the job, whatever is going on.
func (k *keeper) signal(r signalRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.All && r.Signal == unix.SIGKILL && !k.doomed() {
		close(k.doom)
		go k.killAll()
		return nil
	}
	if r.All {
		return k.signalAll(r.Signal)
	}
	if k.main == 0 {
		return plugin.Errorf(plugin.Ended, "", "the job has no main process any more")
	}
	if err := unix.Kill(-k.main, r.Signal); err == nil {
		return nil
	}
	return os.NewSyscallError("kill", unix.Kill(k.main, r.Signal))
}

func (k *keeper) signalAll(sig syscall.Signal) error {
	pids, err := freeze.Descendants(os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return os.NewSyscallError("kill", err)
		}
	}
	return nil
}

// killAll goes on until nothing is left, because there may be forks meanwhile.
func (k *keeper) killAll() {
	for {
		k.mu.Lock()
		up := k.up
		_ = k.signalAll(unix.SIGKILL)
		k.mu.Unlock()
		if !up {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stopAll makes the job stand still: whoever was forked meanwhile, too.
func (k *keeper) stopAll() error {
	for n := -1; ; {
		if err := k.signalAll(unix.SIGSTOP); err != nil {
			return err
		}
		pids, err := freeze.Descendants(os.Getpid())
		if err != nil || len(pids) == n {
			return err
		}
		n = len(pids)
		time.Sleep(5 * time.Millisecond)
	}
}
