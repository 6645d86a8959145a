// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a plugin's process, as go-plugin wants a runner to be. It differs from
// go-plugin's own in what the plugin inherits (next to nothing) and in who reads
// its standard error: go-plugin would panic at a log line such as {"@message":1}.
type process struct {
	cmd     *exec.Cmd
	pid     int
	sockets string // the directory that its socket has to be in
	stdout  io.ReadCloser
	stderr  io.ReadCloser
	log     *logFilter
	done    chan struct{}
	err     error
}

func newProcess(path string, args []string, streams []*os.File, log *logFilter) *process {
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.ExtraFiles = streams
	// What the scheduler or a terminal sends to our group is for us to interpret.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &process{cmd: cmd, log: log, done: make(chan struct{})}
}

// kept are the variables that a plugin inherits.
var kept = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LC_ALL", "TZ", "ESKY_RUNTIME_DIR", "ESKY_FILES_LIMIT"}

// cleanEnv is what of our environment a plugin gets, and what go-plugin tells it.
// LD_PRELOAD and its like are for the job, not for the plugin.
func cleanEnv(ours, handshake []string) []string {
	var env []string
	for _, kv := range ours {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(kept, name) {
			env = append(env, kv)
		}
	}
	return append(env, handshake...)
}

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	out, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer outW.Close()
	errs, errsW, err := os.Pipe()
	if err != nil {
		out.Close()
		return err
	}
	defer errsW.Close()
	// exec.Cmd opens /dev/null for a nil Stdin.
	p.cmd.Stdout, p.cmd.Stderr = outW, errsW
	if err := p.cmd.Start(); err != nil {
		out.Close()
		errs.Close()
		close(p.done)
		return err
	}
	p.stdout, p.stderr, p.pid = out, errs, p.cmd.Process.Pid
	go p.wait()
	return nil
}

// lastOutput is how long what a dead plugin has written may take to be read.
const lastOutput = 200 * time.Millisecond

// wait waits for the plugin's process. A job that has inherited the pipes must not
// keep us waiting for their ends.
func (p *process) wait() {
	p.err = p.cmd.Wait() // does not wait for pipes that it did not make
	close(p.done)
	time.Sleep(lastOutput)
	p.stdout.Close()
	p.stderr.Close()
}

// Wait implements runner.Runner.
func (p *process) Wait(context.Context) error {
	<-p.done
	return p.err
}

// Kill implements runner.Runner.
func (p *process) Kill(context.Context) error {
	p.kill()
	return nil
}

func (p *process) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // it has ended: all the better
	}
}

// Stdout implements runner.Runner.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr implements runner.Runner: nothing is left of the log for go-plugin.
func (p *process) Stderr() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		p.log.read(p.stderr)
		w.Close()
	}()
	return r
}

// Name implements runner.Runner.
func (p *process) Name() string { return p.cmd.Path }

// ID implements runner.Runner.
func (p *process) ID() string { return strconv.Itoa(p.pid) }

// Diagnose implements runner.Runner.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost implements runner.Runner: the only address that is believed is one
// in the private directory.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	if network != "unix" || !strings.HasPrefix(filepath.Clean(addr), p.sockets+"/") {
		return "", "", fmt.Errorf("it listens on %s %.100q, not in $PLUGIN_UNIX_SOCKET_DIR", network, addr)
	}
	return network, addr, nil
}

// HostToPlugin implements runner.Runner.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// lastWords tells whether the plugin has ended, or is just about to, and how: with
// the last line it logged.
func (p *process) lastWords() (how string, ended bool) {
	select {
	case <-p.done:
	case <-time.After(lastOutput):
		return "", false
	}
	if p.err != nil {
		how = " (" + p.err.Error() + ")"
	}
	time.Sleep(lastOutput / 4) // for the log to be read
	if line := p.log.lastLine(); line != "" {
		how += ": " + line
	}
	return how, true
}

// logFilter passes a plugin's log on, as much of it as a person would read.
type logFilter struct {
	pass func(string)
	now  func() time.Time

	mu      sync.Mutex
	last    string
	window  time.Time // when the present minute began
	lines   int       // passed on in it
	dropped int
}

const (
	longestLine = 1024
	mostLines   = 20 // a minute
)

func newLogFilter(pass func(string)) *logFilter {
	if pass == nil {
		pass = func(string) {}
	}
	return &logFilter{pass: pass, now: time.Now}
}

// read reads a log to its end, whatever is in it: the plugin must not be kept
// waiting.
func (l *logFilter) read(r io.Reader) {
	b := bufio.NewReaderSize(r, longestLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			l.line(printable(line))
		}
		for err == bufio.ErrBufferFull { // the rest of a line that is too long
			_, err = b.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

func (l *logFilter) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text == "" {
		return
	}
	l.last = text
	if now := l.now(); now.Sub(l.window) >= time.Minute {
		if l.dropped > 0 {
			l.pass(fmt.Sprintf("%d more lines of its log were dropped", l.dropped))
		}
		l.window, l.lines, l.dropped = now, 0, 0
	}
	if l.lines++; l.lines <= mostLines {
		l.pass(text)
		return
	}
	if l.dropped++; l.dropped == 1 {
		l.pass("it writes too much to its log: what follows is dropped for a minute")
	}
}

func (l *logFilter) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// printable keeps a log from talking to a terminal.
func printable(line []byte) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(line), "?")))
}
