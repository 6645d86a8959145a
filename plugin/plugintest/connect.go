// SPDX-License-Identifier: Apache-2.0

// Package plugintest has what authors of providers and schedulers test theirs
// with: the same suite inside a program, over real gRPC, and through a program of
// its own. It looks at what becomes of jobs, not only at answers.
package plugintest

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/esky-hpc/esky/plugin"
)

// OverWire returns the provider as a host sees it: at the other end of a socket.
func OverWire(t testing.TB, p plugin.Provider) plugin.Provider {
	t.Helper()
	return plugin.NewProviderClient(connect(t, func(s *grpc.Server) { plugin.RegisterProvider(s, p) }), "the provider")
}

// SchedulerOverWire returns the scheduler as a host sees it.
func SchedulerOverWire(t testing.TB, s plugin.Scheduler) plugin.Scheduler {
	t.Helper()
	return plugin.NewSchedulerClient(connect(t, func(srv *grpc.Server) { plugin.RegisterScheduler(srv, s) }), "the scheduler")
}

func connect(t testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "esky-wire-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go server.Serve(l)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		os.RemoveAll(dir)
	})
	return conn
}
