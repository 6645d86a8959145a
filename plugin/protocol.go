// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/esky-hpc/esky/plugin/wire"
)

// ProtocolVersion is the newest version of the protocol. Fields and calls are
// added without a new one; a new one says that an old one has changed its meaning.
const ProtocolVersion = 1

// Kinds of plugins, as go-plugin calls them.
const (
	providerKind  = "provider"
	schedulerKind = "scheduler"
)

// Handshake is what keeps people from starting a plugin by hand. It says nothing
// of who may be trusted.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion: ProtocolVersion, MagicCookieKey: "ESKY_PLUGIN", MagicCookieValue: "checkpoint-and-restart",
}

// Plugins are the sets for each version of the protocol, for programs that call
// go-plugin themselves: Dispense("provider") gives a Provider, Dispense("scheduler")
// a Scheduler. A host gives nil for both, a plugin what it serves.
func Plugins(p Provider, s Scheduler) map[int]goplugin.PluginSet {
	set := goplugin.PluginSet{}
	if p != nil || s == nil {
		set[providerKind] = &providerPlugin{Provider: p, name: "the provider"}
	}
	if s != nil || p == nil {
		set[schedulerKind] = &schedulerPlugin{Scheduler: s, name: "the scheduler"}
	}
	return map[int]goplugin.PluginSet{ProtocolVersion: set}
}

type providerPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Provider Provider
	name     string
}

func (p *providerPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	RegisterProvider(s, p.Provider)
	return nil
}

func (p *providerPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return NewProviderClient(c, p.name), nil
}

type schedulerPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Scheduler Scheduler
	name      string
}

func (p *schedulerPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	RegisterScheduler(s, p.Scheduler)
	return nil
}

func (p *schedulerPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return NewSchedulerClient(c, p.name), nil
}

// RegisterProvider makes a gRPC server answer for a provider.
func RegisterProvider(s grpc.ServiceRegistrar, p Provider) {
	wire.RegisterProviderServer(s, &providerServer{p: p})
}

// RegisterScheduler makes a gRPC server answer for a scheduler.
func RegisterScheduler(s grpc.ServiceRegistrar, sched Scheduler) {
	wire.RegisterSchedulerServer(s, &schedulerServer{s: sched})
}

// NewProviderClient is the provider at the other end of a connection. name is what
// errors call it.
func NewProviderClient(c grpc.ClientConnInterface, name string) Provider {
	return &providerClient{peer{name: name, patience: defaultPatience}, wire.NewProviderClient(c)}
}

// NewSchedulerClient is the scheduler at the other end of a connection.
func NewSchedulerClient(c grpc.ClientConnInterface, name string) Scheduler {
	return &schedulerClient{peer{name: name, patience: defaultPatience}, wire.NewSchedulerClient(c)}
}
