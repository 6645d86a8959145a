// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// ServeConfig is what a plugin serves: a provider, a scheduler, or both.
type ServeConfig struct {
	Provider  Provider
	Scheduler Scheduler
	// Linger keeps the process when its host is gone, for hosts that connect to it
	// again. Without it the process ends, and a new one recovers the jobs.
	Linger bool
}

// Serve is the main function of a plugin. It returns when the host has no more use
// for it.
//
// What the plugin writes to standard error, as package log does, the host logs.
// Standard output belongs to go-plugin. Signals that a batch system sends to all
// processes of a job are caught and do nothing: what they mean is the host's
// business.
func Serve(c ServeConfig) {
	keepDescriptors()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU, syscall.SIGALRM, syscall.SIGTSTP)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: Plugins(c.Provider, c.Scheduler),
		Logger:           hclog.NewNullLogger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			if c.Linger {
				return grpc.NewServer(o...)
			}
			w := &hostWatch{}
			w.server = grpc.NewServer(append(o, grpc.StatsHandler(w))...)
			return w.server
		},
	})
}

// keepDescriptors keeps what the host has handed over from all programs that the
// plugin executes, unless it is given to them on purpose.
func keepDescriptors() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// farewell is how long calls that are under way may take to give up when the host
// is gone.
const farewell = 10 * time.Second

// hostWatch stops the server when the last connection is closed: the host has
// ended, perhaps by a SIGKILL.
type hostWatch struct {
	server *grpc.Server
	mu     sync.Mutex
	conns  int
}

// HandleConn implements stats.Handler.
func (w *hostWatch) HandleConn(_ context.Context, s stats.ConnStats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		w.conns++
	case *stats.ConnEnd:
		if w.conns--; w.conns == 0 {
			go w.stop()
		}
	}
}

func (w *hostWatch) stop() {
	late := time.AfterFunc(farewell, func() { os.Exit(1) })
	defer late.Stop()
	w.server.GracefulStop()
}

// TagConn implements stats.Handler.
func (*hostWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC implements stats.Handler.
func (*hostWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (*hostWatch) HandleRPC(context.Context, stats.RPCStats) {}
