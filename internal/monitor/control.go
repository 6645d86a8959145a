// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"golang.org/x/sys/unix"
)

// The control protocol: a client connects, sends one Request as a line of JSON
// and gets Replies, a line each, the last of which has Done set. A peer of another user
// is not answered at all; root is.

// Request asks a monitor for something.
type Request struct {
	Op       string `json:"op"`                 // checkpoint or status
	Stop     bool   `json:"stop,omitempty"`     // end the job after the checkpoint
	Quiet    bool   `json:"quiet,omitempty"`    // with Stop: whoever asks brings the job back, the scheduler is not told
	Progress bool   `json:"progress,omitempty"` // send replies with progress before the last one
}

// Reply is one line of an answer.
type Reply struct {
	Done     bool             `json:"done,omitempty"`
	Progress *engine.Progress `json:"progress,omitempty"`
	State    *State           `json:"state,omitempty"`
	Saved    *Saved           `json:"saved,omitempty"`
	Error    string           `json:"error,omitempty"`
	Hint     string           `json:"hint,omitempty"`
	Code     int              `json:"code,omitempty"`
}

// State is what a living monitor says of its job.
type State struct {
	Job        string    `json:"job"`
	Store      string    `json:"store"`
	Dir        string    `json:"dir"` // where the job was started
	Scheduler  string    `json:"scheduler,omitempty"`
	JobID      string    `json:"job_id,omitempty"` // the scheduler's
	State      string    `json:"state"`
	Host       string    `json:"host"`
	MonitorPid int       `json:"monitor_pid"`
	InitPid    int       `json:"init_pid,omitempty"`
	MainPid    int       `json:"main_pid,omitempty"`
	Attempt    int       `json:"attempt"`
	Started    time.Time `json:"started"`
	CPU        float64   `json:"cpu_seconds"`
	Memory     int64     `json:"memory_bytes"`
	Last       *Saved    `json:"last_checkpoint,omitempty"`
	Waiting    int       `json:"waiting,omitempty"` // checkpoints asked for and not begun
	Next       time.Time `json:"next_checkpoint,omitzero"`
	Limit      time.Time `json:"time_limit,omitzero"`
	Leave      time.Time `json:"leaves_at,omitzero"`
}

// Saved is a published checkpoint.
type Saved struct {
	Generation uint32        `json:"generation"`
	Time       time.Time     `json:"time"`
	Bytes      int64         `json:"bytes"`
	Pause      time.Duration `json:"pause_ns"`
	Took       time.Duration `json:"took_ns"`
	Stopped    bool          `json:"stopped,omitempty"`
}

// Limits against peers that are slow, silent or worse.
const (
	longestRequest = 4096
	longestReply   = 1 << 20
	mostPeers      = 16
	peerPatience   = 5 * time.Second
)

// server answers on the control socket.
type server struct {
	listener *net.UnixListener
	ask      func(context.Context, Request, func(engine.Progress)) Reply
	cancel   context.CancelFunc
	peers    chan struct{} // one element a connection
	wg       sync.WaitGroup
}

// serve listens on path. The caller holds the monitor's lock, so a socket that
// is there already is a dead monitor's.
func serve(path string, ask func(context.Context, Request, func(engine.Progress)) Reply) (*server, error) {
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{listener: l, ask: ask, cancel: cancel, peers: make(chan struct{}, mostPeers)}
	s.wg.Go(func() { s.accept(ctx) })
	return s, nil
}

// close stops listening, removes the socket and waits for the connections.
func (s *server) close() {
	s.cancel()
	s.listener.Close()
	s.wg.Wait()
}

func (s *server) accept(ctx context.Context) {
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: the peer can try again
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case s.peers <- struct{}{}:
			s.wg.Go(func() {
				s.talk(ctx, conn)
				<-s.peers
			})
		default:
			conn.Close()
		}
	}
}

func (s *server) talk(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if !friendly(conn) {
		return
	}
	var req Request
	if err := readLine(conn, longestRequest, &req); err != nil {
		_ = sendLine(conn, Reply{Done: true, Code: ExitUsage, Error: err.Error()})
		return
	}
	s.answer(ctx, conn, req)
}

// answer waits for the answer and passes progress on. A checkpoint does not
// wait for a peer that does not read: what comes too fast is dropped.
func (s *server) answer(ctx context.Context, conn *net.UnixConn, req Request) {
	steps := make(chan engine.Progress, 1)
	final := make(chan Reply, 1)
	s.wg.Go(func() {
		final <- s.ask(ctx, req, func(p engine.Progress) {
			select {
			case steps <- p:
			default:
			}
		})
	})
	for {
		select {
		case p := <-steps:
			if req.Progress {
				req.Progress = sendLine(conn, Reply{Progress: &p}) == nil
			}
		case r := <-final:
			select {
			case p := <-steps:
				if req.Progress {
					_ = sendLine(conn, Reply{Progress: &p})
				}
			default:
			}
			r.Done = true
			_ = sendLine(conn, r) // a peer that is gone has no use for it
			return
		}
	}
}

// friendly tells whether the peer is this user or root.
func friendly(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Getuid())
	})
	return ok
}

// readLine reads one line of JSON of at most limit bytes, within peerPatience.
func readLine(conn *net.UnixConn, limit int, v any) error {
	if err := conn.SetReadDeadline(time.Now().Add(peerPatience)); err != nil {
		return err
	}
	line, err := bufio.NewReaderSize(conn, limit).ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if err := json.Unmarshal(line, v); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func sendLine(conn *net.UnixConn, r Reply) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(peerPatience)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}
