// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/test/harness"
)

// misbehave is the main function of a plugin: our own provider, but for one fault,
// once.
func misbehave(kind string) {
	if null, err := os.Readlink("/proc/self/fd/0"); os.Getenv("LD_PRELOAD") != "" || null != os.DevNull || err != nil {
		log.Fatal("what it inherits is not clean: ", null)
	}
	p := bad{native.New("test"), kind}
	switch kind {
	case "exits":
		log.Print("no licence today")
		os.Exit(3)
	case "babbles":
		fmt.Println("hello, world")
		select {}
	case "mute":
		select {}
	case "version7":
		set := plugin.Plugins(p, nil)[plugin.ProtocolVersion]
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig: plugin.Handshake, VersionedPlugins: map[int]goplugin.PluginSet{7: set}, GRPCServer: goplugin.DefaultGRPCServer,
		})
	case "later": // of a time when there is version 9 too
		sets := plugin.Plugins(p, nil)
		sets[9] = sets[plugin.ProtocolVersion]
		goplugin.Serve(&goplugin.ServeConfig{HandshakeConfig: plugin.Handshake, VersionedPlugins: sets, GRPCServer: goplugin.DefaultGRPCServer})
		return
	case "v1":
		serveV1(filepath.Join(os.Getenv("HOME"), nameV1))
		return
	case "floods":
		stderr := os.Stderr // go-plugin soon puts a stream of its own in its place
		go func() {
			for {
				fmt.Fprintln(stderr, `{"@message":1} `+strings.Repeat("\x1b[2Jblah ", 3000))
				fmt.Fprintln(os.Stderr, "blah")
				time.Sleep(time.Millisecond) // the flood is of lines, not of CPU time
			}
		}()
	}
	plugin.Serve(plugin.ServeConfig{Provider: p})
}

type bad struct {
	*native.Provider
	kind string
}

// first tells whether the fault has not been shown yet.
func (b bad) first() bool {
	f, err := os.OpenFile(filepath.Join(os.Getenv("HOME"), "shown"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func (b bad) Start(ctx context.Context, o plugin.StartOptions) (plugin.Handle, error) {
	h, err := b.Provider.Start(ctx, o)
	if b.kind == "wrongpid" {
		_ = b.Provider.Signal(ctx, h, syscall.SIGKILL, true)
		h.Pid = 1
	}
	return h, err
}

func (b bad) Checkpoint(ctx context.Context, h plugin.Handle, o plugin.CheckpointOptions, progress func(plugin.Progress)) (plugin.Image, error) {
	if !b.first() {
		return b.Provider.Checkpoint(ctx, h, o, progress)
	}
	switch b.kind {
	case "crashes":
		log.Print("out of luck")
		os.Exit(2)
	case "panics":
		panic("out of luck")
	case "hangs":
		select {}
	case "stops":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "empty":
		return plugin.Image{Dir: o.Dir}, nil
	case "elsewhere":
		return plugin.Image{Dir: "/etc", Bytes: 1}, nil
	case "negative":
		return plugin.Image{Dir: o.Dir, Bytes: -1}, nil
	case "fifo":
		_ = syscall.Mkfifo(filepath.Join(o.Dir, "pipe"), 0o600)
		return plugin.Image{Dir: o.Dir, Bytes: 1}, nil
	case "leaves": // with the job frozen
		i, err := b.Provider.Checkpoint(ctx, h, o, progress)
		if o.Stop && err == nil {
			_ = os.RemoveAll(o.Dir)
			os.Exit(4)
		}
		return i, err
	}
	return b.Provider.Checkpoint(ctx, h, o, progress)
}

// badJob is a job under a plugin that misbehaves.
func badJob(t *testing.T, kind string) *harness.Job {
	t.Helper()
	if os.Getenv(providerVar) != "" {
		t.Skip("part of the outer run")
	}
	j := harness.NewJob(t, "/bin/sh", "-c", `n=0
while [ ! -e go ] || [ $n -lt 30 ]; do n=$((n + 1)); echo $n > step.new; mv step.new step; sleep 0.02; done
echo end; exit 3`)
	plugins := j.Path("plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.CopyProgram(t, os.Args[0], filepath.Join(plugins, plugin.ProviderPrefix+kind))
	j.Env = []string{plugin.PathVariable + "=" + plugins, "LD_PRELOAD=libc.so.6"}
	if kind == "hangs" || kind == "stops" {
		j.Env = append(j.Env, "ESKY_PLUGIN_SILENCE=3s")
	}
	j.Flags = []string{"--provider", kind}
	return j
}

// TestMisbehaviour: a plugin that fails in a checkpoint costs that checkpoint, with
// one sentence. The job runs on; the next checkpoint is tried again and works.
func TestMisbehaviour(t *testing.T) {
	for kind, says := range map[string]string{
		"crashes": "esky-provider-crashes has ended (exit status 2): ", "panics": "esky-provider-panics has ended (exit status 2)",
		"hangs": "has not answered for 3s", "stops": "has not answered for 3s",
		"empty": "has written no image", "elsewhere": `answers nonsense: an image in "/etc"`, "negative": "answers nonsense: an image of -1 bytes",
		"fifo": "has written pipe, which is no ordinary file", "leaves": "esky-provider-leaves has ended (exit status 4)",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			j := badJob(t, kind)
			r := j.Start()
			r.Until("it is at work", func() bool { return j.Read("step") != "" })
			var flags []string
			if kind == "leaves" {
				flags = append(flags, "--stop")
			}
			o := j.TryCheckpoint(flags...)
			if o.Status != harness.ExitHost || !strings.Contains(o.Stderr, says) || strings.Count(strings.TrimSpace(o.Stderr), "\n") > 0 {
				t.Errorf("want status %d and one sentence with %q: %s", harness.ExitHost, says, o)
			}
			at := j.Read("step")
			r.Until("it goes on", func() bool { return j.Read("step") != at })
			j.Checkpoint()
			j.Checkpoint("--stop")
			r.WaitFor(harness.ExitAgain)
			at = j.Read("step")
			r = j.Start()
			r.Until("it goes on", func() bool { return j.Read("step") != at })
			j.Write("go", "")
			r.WaitFor(3)
			if out := j.Read("stdout"); out != "end\n" {
				t.Errorf("stdout %q", out)
			}
			if said := r.Stderr(); strings.Contains(said, "nonsense") || !strings.Contains(said, "resumed job from checkpoint 2") {
				t.Errorf("it said %s", said)
			}
		})
	}
}

// TestNoPlugin: what is no plugin is told so in one sentence, and nothing is started.
func TestNoPlugin(t *testing.T) {
	for kind, says := range map[string]string{
		"exits":    "esky-provider-exits ended at once (exit status 3): ",
		"babbles":  "esky-provider-babbles is no plugin: ",
		"mute":     "esky-provider-mute has not answered in time",
		"version7": "esky-provider-version7 speaks version 7 of the protocol, this program speaks 1",
		"wrongpid": "answers nonsense: process 1 ",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			j := badJob(t, kind)
			r := j.Start()
			r.WaitFor(harness.ExitHost)
			lines := strings.Split(strings.TrimSpace(r.Stderr()), "\n")
			for i, line := range lines { // what the plugin itself had to say is before it
				if last := i == len(lines)-1; strings.Contains(line, says) != last || !last && !strings.HasPrefix(line, "esky-wrap: "+kind+": ") {
					t.Errorf("want one sentence with %q, it said %s", says, r.Stderr())
				}
			}
			if len(harness.Of(j.Dir)) > 0 {
				t.Errorf("left are %v", harness.Of(j.Dir))
			}
		})
	}
}

// TestLater: a plugin that speaks a later version of the protocol besides ours works.
func TestLater(t *testing.T) {
	t.Parallel()
	j := badJob(t, "later")
	r := j.Start()
	r.Until("it is at work", func() bool { return j.Read("step") != "" })
	j.Checkpoint()
	j.Write("go", "")
	r.WaitFor(3)
}

// TestFlood: a plugin that writes without end to its log is heard 20 times.
func TestFlood(t *testing.T) {
	t.Parallel()
	j := badJob(t, "floods")
	r := j.Start()
	r.Until("it is at work", func() bool { return j.Read("step") != "" })
	j.Checkpoint()
	j.Write("go", "")
	r.WaitFor(3)
	said := r.Stderr()
	if n := strings.Count(said, "blah"); n == 0 || len(said) > 64<<10 || strings.Contains(said, "\x1b") || !strings.Contains(said, "it writes too much to its log") {
		t.Errorf("%d bytes, %d times, ending with %q", len(said), n, said[max(0, len(said)-300):])
	}
}

// TestKilled: a plugin that is killed beside its job is started again; the status of
// the job is exact. A monitor that is killed is followed by one that takes over.
func TestKilled(t *testing.T) {
	t.Parallel()
	j := badJob(t, "good")
	r := j.Start()
	r.Until("it is at work", func() bool { return j.Read("step") != "" })
	for range 2 {
		if killPlugins(j.Dir) == 0 {
			t.Error("there was no plugin")
		}
		r.Until("a checkpoint succeeds again", func() bool { return j.Esky("checkpoint").Status == 0 })
	}
	if said := r.Stderr(); !strings.Contains(said, "; the job runs on") {
		t.Errorf("it said %s", said)
	}
	r.Kill9()
	r = j.Start()
	r.Until("it is taken over", func() bool { return strings.Contains(r.Stderr(), "runs on here: taken over") })
	at := j.Read("step")
	r.Until("it goes on", func() bool { return j.Read("step") != at })
	j.Checkpoint()
	killPlugins(j.Dir)
	j.Write("go", "")
	r.WaitFor(3)
}

// killPlugins kills the plugin processes of a job, not their jobs' inits.
func killPlugins(dir string) (n int) {
	for _, p := range harness.Of(dir) {
		if strings.HasPrefix(p.Line, filepath.Join(dir, "plugins")) && !strings.Contains(p.Line, " ") {
			n++
			_ = syscall.Kill(p.Pid, syscall.SIGKILL)
		}
	}
	return n
}
