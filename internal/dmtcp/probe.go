// SPDX-License-Identifier: Apache-2.0

package dmtcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/plugin"
)

// Probe implements plugin.Provider.
func (p *Provider) Probe(ctx context.Context, o plugin.ProbeOptions) (plugin.ProbeReport, error) {
	t, err := find(nil)
	if err == nil && o.StateDir != "" && unix.Access(o.StateDir, unix.W_OK|unix.X_OK) != nil {
		err = plugin.Errorf(plugin.Host, "a directory of yours", "%s cannot be written", o.StateDir)
	}
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.tested {
			p.result, p.tested = t.try(ctx), true
		}
		err = p.result
	}
	if err == nil {
		return plugin.ProbeReport{Usable: true}, nil
	}
	f := plugin.Finding{Fatal: true, Text: err.Error(), Remedy: "another version of DMTCP, or provider native"}
	var e *plugin.Error
	if errors.As(err, &e) && e.Hint != "" {
		f.Remedy = e.Hint
	}
	return plugin.ProbeReport{Findings: []plugin.Finding{f}}, nil
}

// tryTime is how long DMTCP may take for each step of the trial.
const tryTime = 20 * time.Second

// try saves a small process, brings it back, and saves it again: only so it is known
// whether DMTCP, the C library and the kernel understand each other.
func (t tools) try(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "esky-dmtcp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	first, second := place(filepath.Join(dir, "1")), place(filepath.Join(dir, "2"))
	// It ends by itself, should we be killed.
	if err := t.tryOnce(ctx, "save", first, t.launch(first, []string{"sleep", "60"})); err != nil {
		return err
	}
	return t.tryOnce(ctx, "resume", second, t.restart(second, first.images()))
}

// tryOnce starts a process and saves it.
func (t tools) tryOnce(ctx context.Context, what string, p place, argv []string) error {
	if err := p.make(); err != nil {
		return err
	}
	said := &strings.Builder{}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = said
	cmd.WaitDelay = time.Second // a coordinator may keep standard error open
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("try DMTCP: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it was killed, or has said why not
		cancel()
		close(ended)
	}()
	err := t.save(ctx, p)
	_ = cmd.Process.Kill()
	<-ended
	if err == nil {
		return nil
	}
	why, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	if why == "" {
		why = err.Error()
	}
	return plugin.Errorf(plugin.Host, "another version of DMTCP, or provider native", "DMTCP cannot %s even a small process here: %s", what, why)
}

// save makes a checkpoint as soon as there is something to save.
func (t tools) save(ctx context.Context, p place) error {
	for {
		argv, err := t.checkpoint(p)
		if err == nil {
			var out []byte
			if out, err = exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err == nil && len(p.images()) > 0 {
				return nil
			}
			err = fmt.Errorf("dmtcp_command --bcheckpoint: %w: %s", err, out)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
