// SPDX-License-Identifier: Apache-2.0

// Package lab runs esky under real schedulers: clusters of some hosts on this
// machine, started by the scripts "slurm" and "gridengine" in this directory. It
// needs root, and minutes.
//
//	make && ESKY_LAB=1 go test -v ./test/lab
//
// A cluster that is up already is used and left up.
package lab

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// cluster is one lab; it starts with the first test that needs it.
type cluster struct {
	script string
	once   sync.Once
	home   string // where its /home/esk lies on this machine
	ours   bool   // started here, so to be stopped here
	err    error
}

// side is how many tests run side by side: they mostly wait, for schedulers.
const side = "10"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		_ = flag.Set("test.parallel", side)
	}
	status := m.Run()
	for _, c := range []*cluster{slurmLab, gridengineLab} {
		if !c.ours {
			continue
		}
		if out, err := exec.Command(c.script, "down").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s down: %v: %s\n", c.script, err, out)
			status = 1
		}
	}
	os.Exit(status)
}

// need makes sure that there is this cluster, or skips the test.
func (c *cluster) need(t *testing.T) {
	t.Helper()
	if os.Getenv("ESKY_LAB") == "" {
		t.Skip("starts a cluster of hosts on this machine, for minutes: only with ESKY_LAB=1 (make test-lab)")
	}
	if os.Geteuid() != 0 {
		t.Skip("the cluster needs root, for hosts with users and a network of their own")
	}
	c.once.Do(func() { c.err = c.start() })
	if c.err != nil {
		t.Fatal(c.err)
	}
}

func (c *cluster) start() error {
	c.ours = exec.Command(c.script, "status").Run() != nil
	// If it is up already this brings the newest programs in.
	if out, err := exec.Command(c.script, "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%s up: %w: %s", c.script, err, out)
	}
	dir, err := exec.Command(c.script, "dir").Output()
	if err != nil {
		return fmt.Errorf("%s dir: %w", c.script, err)
	}
	c.home = filepath.Join(strings.TrimSpace(string(dir)), "home", "esk")
	cc := exec.Command("cc", "-O2", "-Wall", "-Werror", "-o", filepath.Join(c.home, "count"), "testdata/count.c")
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	return nil
}

// run gives a command to the cluster's script and returns its stdout.
func (c *cluster) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.script, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s%s", c.script, args, err, out, errs.Bytes())
	}
	return string(out)
}
