// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/esky-hpc/esky/plugin/wire"
)

// HostConfig says which plugin to start, and how.
type HostConfig struct {
	Found
	// Args are arguments for the program. Most have none.
	Args []string
	// Streams are the files that the plugin has as descriptors 3, 4, …: for the
	// streams "fd:3", "fd:4" … of the jobs that it starts.
	Streams []*os.File
	// Log is called for each line that the plugin writes to standard error; nil: they
	// are dropped. A flood of them is cut off, and told.
	Log func(line string)
	// StartTime is how long the plugin may take to answer at all (default 10 s),
	// Answer how long quick calls may take (1 min), Silence how long a checkpoint or
	// a resume may go without a word of progress (5 min).
	StartTime, Answer, Silence time.Duration
}

// Plugin is a running plugin.
type Plugin struct {
	name     string
	client   *goplugin.Client
	protocol goplugin.ClientProtocol
	process  *process
	patience patience
	sockets  string
	once     sync.Once
}

// defaultStartTime is how long a plugin may take to answer at all.
const defaultStartTime = 10 * time.Second

// largestMessage bounds what a plugin can make us keep in memory.
const largestMessage = 4 << 20

// Open starts a plugin that is to be trusted (Trust), with a clean environment and
// /dev/null as standard input, and connects to it by a socket in a directory that
// is ours alone.
func Open(c HostConfig) (*Plugin, error) {
	path, err := Trust(c.Path, c.Checksum)
	if err != nil {
		return nil, err
	}
	sockets, err := os.MkdirTemp(socketBase(), "esky-plugin-") // with mode 0700
	if err != nil {
		return nil, fmt.Errorf("make the directory of the plugin's socket: %w", err)
	}
	p := &Plugin{
		name: "plugin " + filepath.Base(path), sockets: sockets,
		process: newProcess(path, c.Args, c.Streams, newLogFilter(c.Log)),
	}
	p.patience = patience{or(c.Answer, defaultPatience.answer), or(c.Silence, defaultPatience.silence)}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: Handshake, VersionedPlugins: Plugins(nil, nil),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     or(c.StartTime, defaultStartTime), Logger: hclog.NewNullLogger(), SkipHostEnv: true,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: sockets},
		GRPCDialOptions:  []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestMessage))},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.process.cmd.Env = cleanEnv(os.Environ(), cmd.Env)
			p.process.sockets = sockets
			return p.process, nil
		},
	})
	// What starts to answer and then hangs would hang us too.
	late := time.AfterFunc(or(c.StartTime, defaultStartTime)+time.Second, p.process.kill)
	defer late.Stop()
	if p.protocol, err = p.client.Client(); err != nil {
		p.process.kill()
		p.Close()
		return nil, p.notStarted(err)
	}
	return p, nil
}

func or(d, other time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return other
}

// socketBase is where the directory of the socket is made: paths of sockets are
// short (sun_path, unix(7)).
func socketBase() string {
	if dir := os.TempDir(); len(dir) <= 40 {
		return dir
	}
	return "/tmp"
}

// notStarted says in one sentence what go-plugin says in many lines.
func (p *Plugin) notStarted(err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, os.ErrPermission), errors.As(err, new(*exec.Error)), errors.As(err, new(*os.PathError)):
		return Errorf(Broken, "", "%s cannot be started: %v", p.name, err)
	case strings.Contains(text, "incompatible API version"):
		// "…Plugin version: 7, Client versions: [1]"
		_, theirs, _ := strings.Cut(text, "Plugin version: ")
		theirs, _, _ = strings.Cut(theirs, ",")
		return Errorf(Broken, "use versions of both that fit", "%s speaks version %s of the protocol, this program speaks %d", p.name, theirs, ProtocolVersion)
	case strings.Contains(text, "timeout"):
		return Errorf(Broken, "", "%s has not answered in time", p.name)
	case strings.Contains(text, "exited"), strings.Contains(text, "Failed to read any lines"):
		how, _ := p.process.lastWords()
		return Errorf(Broken, "", "%s ended at once%s", p.name, how)
	case strings.Contains(text, "unsupported plugin protocol"):
		return Errorf(Broken, "", "%s does not speak gRPC", p.name)
	}
	line, _, _ := strings.Cut(text, "\n")
	return Errorf(Broken, "", "%s is no plugin: %.200s", p.name, line)
}

// Name is what errors call the plugin.
func (p *Plugin) Name() string { return p.name }

// Version is the version of the protocol that both sides speak.
func (p *Plugin) Version() int { return p.client.NegotiatedVersion() }

// Pid is that of the plugin's process.
func (p *Plugin) Pid() int { return p.process.pid }

// Done is closed when the plugin's process has ended.
func (p *Plugin) Done() <-chan struct{} { return p.process.done }

// Provider is the plugin as a provider. A plugin that serves none answers every
// call with an error of kind Unsupported.
func (p *Plugin) Provider() Provider {
	return &providerClient{p.peer(), wire.NewProviderClient(p.conn())}
}

// Scheduler is the plugin as a scheduler.
func (p *Plugin) Scheduler() Scheduler {
	return &schedulerClient{p.peer(), wire.NewSchedulerClient(p.conn())}
}

func (p *Plugin) peer() peer { return peer{p.name, p.patience, p.process} }

func (p *Plugin) conn() grpc.ClientConnInterface {
	return p.protocol.(*goplugin.GRPCClient).Conn // AllowedProtocols has no other
}

// politeness is how long a plugin may take to end by itself.
const politeness = 2 * time.Second

// Close ends the plugin. Its jobs run on.
func (p *Plugin) Close() {
	p.once.Do(func() {
		late := time.AfterFunc(politeness, p.process.kill)
		defer late.Stop()
		p.client.Kill()
		os.RemoveAll(p.sockets)
	})
}

// Kill ends the plugin at once, as one does that hangs. Its jobs run on.
func (p *Plugin) Kill() {
	p.process.kill()
	p.Close()
}
