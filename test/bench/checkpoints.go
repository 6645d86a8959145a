// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// A checkpoint is one measured round.
type checkpoint struct {
	MiB       int     `json:"mib"`
	Huge      bool    `json:"huge_pages"`
	Provider  bool    `json:"by_provider"` // through bin/esky-provider, as a plugin
	Start     float64 `json:"start_s"`     // until the program has its memory and beats
	Quiet     float64 `json:"quiet_gap_s"` // longest gap in as long a time without a checkpoint
	Pause     float64 `json:"pause_s"`
	Dump      float64 `json:"dump_s"`
	Bytes     int64   `json:"image_bytes"`
	StopDump  float64 `json:"stop_dump_s"` // of the checkpoint that ended the job
	StopBytes int64   `json:"stop_image_bytes"`
	Resume    float64 `json:"resume_s"`
	Limits    limits  `json:"limits"`
}

// variants are measured in turns, so that the machine is the same for all.
var variants = []checkpoint{{}, {Huge: true}, {Provider: true}}

func (b *bench) checkpoints() ([]checkpoint, error) {
	var all []checkpoint
	for _, mib := range b.sizes {
		for i := range b.rounds {
			for v, c := range variants {
				c.MiB = mib
				c, err := b.round(c, fmt.Sprintf("%d-%d-%d", mib, v, i))
				if err != nil {
					return all, fmt.Errorf("%d MiB, %s: %w", mib, c.kind(), err)
				}
				fmt.Printf("%5d MiB %s: pause %.1f ms, dump %.2f s, resume %.2f s\n", mib, c.kind(), c.Pause*1e3, c.Dump, c.Resume)
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func (c checkpoint) kind() string {
	switch {
	case c.Provider:
		return "small, by esky-provider"
	case c.Huge:
		return "huge"
	}
	return "small"
}

// round measures one live checkpoint, one that ends the job, and one resume of
// a heartbeat of its own.
func (b *bench) round(c checkpoint, name string) (checkpoint, error) {
	begin := time.Now()
	h, err := b.newHeart(c, name)
	if err != nil {
		return c, err
	}
	defer h.close()
	c.Start = time.Since(begin).Seconds()
	if c.Limits, err = measureLimits(b.dir, int64(c.MiB)<<20); err != nil {
		return c, err
	}
	if err := h.live(&c); err != nil {
		return c, err
	}
	return c, h.away(&c)
}

// live measures a checkpoint of the running job.
func (h *heart) live(c *checkpoint) error {
	took, from, err := h.checkpoint()
	if err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	c.Dump, c.Pause, c.Bytes = took.Seconds(), h.longest(from, time.Now()), h.size()
	from = time.Now()
	time.Sleep(took + 100*time.Millisecond)
	c.Quiet = h.longest(from, time.Now())
	return nil
}

// away measures a checkpoint that ends the job, and its way back.
func (h *heart) away(c *checkpoint) error {
	took, _, err := h.checkpoint("--stop")
	if err != nil {
		return err
	}
	if err := h.wait(); err == nil || h.cmd.ProcessState.ExitCode() != harness.ExitAgain {
		return fmt.Errorf("the stopped job ended with %v, want status %d", err, harness.ExitAgain)
	}
	c.StopDump, c.StopBytes = took.Seconds(), h.size()
	start := time.Now()
	if err := h.start(); err != nil {
		return err
	}
	for end := start.Add(5 * time.Minute); c.Resume == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("no heartbeat after resume; %s", h.messages())
		}
		// The first gap that ends after the start is the time away.
		for _, g := range h.gaps() {
			if g.end.After(start) {
				c.Resume = g.end.Sub(start).Seconds()
				break
			}
		}
	}
	return nil
}

// A heart is a heartbeat under esky.
type heart struct {
	b    *bench
	dir  string
	args []string // of "esky-wrap run"
	cmd  *exec.Cmd
	done chan error
}

func (b *bench) newHeart(c checkpoint, name string) (*heart, error) {
	h := &heart{b: b, dir: filepath.Join(b.dir, name), args: []string{"--name", "heart"}}
	if c.Provider {
		h.args = append(h.args, "--provider", filepath.Join(b.dir, "esky-provider"))
	}
	pages := map[bool]string{true: "huge", false: "small"}[c.Huge]
	h.args = append(h.args, "--", filepath.Join(b.dir, "heartbeat"), fmt.Sprint(c.MiB), fmt.Sprint(b.dirty), pages)
	if out, err := harness.Command(b.dir, "mkdir", h.dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkdir %s: %s", h.dir, out)
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(5 * time.Minute); !strings.Contains(h.output(), "ready"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.close()
			return nil, fmt.Errorf("the heartbeat does not begin; %s", h.messages())
		}
	}
	return h, nil
}

func (h *heart) esky(verb string, args ...string) *exec.Cmd {
	store := []string{verb, "--store", filepath.Join(h.dir, "store")}
	return harness.Command(h.dir, filepath.Join(h.b.dir, "esky-wrap"), append(store, args...)...)
}

func (h *heart) start() error {
	h.cmd = h.esky("run", h.args...)
	for name, to := range map[string]*io.Writer{"stdout": &h.cmd.Stdout, "stderr": &h.cmd.Stderr} {
		f, err := os.OpenFile(filepath.Join(h.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		defer f.Close()
		if os.Getuid() == 0 { // else the job may not reopen its own output
			if err := f.Chown(1000, 1000); err != nil {
				return err
			}
		}
		*to = f
	}
	if err := h.cmd.Start(); err != nil {
		return err
	}
	cmd, done := h.cmd, make(chan error, 1)
	h.done = done
	go func() { done <- cmd.Wait() }()
	return nil
}

func (h *heart) wait() error {
	select {
	case err := <-h.done:
		return err
	case <-time.After(5 * time.Minute):
		return fmt.Errorf("no end; %s", h.messages())
	}
}

// close ends the job and removes what it wrote.
func (h *heart) close() {
	for _, p := range harness.Tree(h.cmd.Process.Pid) {
		if q, err := os.FindProcess(p.Pid); err == nil {
			_ = q.Kill() // it may have ended already
		}
	}
	_ = h.cmd.Process.Kill()
	select {
	case <-h.done:
	case <-time.After(10 * time.Second):
	}
	os.RemoveAll(h.dir)
}

// checkpoint makes a checkpoint and says how long the command took.
func (h *heart) checkpoint(flags ...string) (time.Duration, time.Time, error) {
	start := time.Now()
	out, err := h.esky("checkpoint", append(flags, "heart")...).CombinedOutput()
	if err != nil {
		return 0, start, fmt.Errorf("checkpoint: %w\n%s%s", err, out, h.messages())
	}
	return time.Since(start), start, nil
}

func (h *heart) output() string   { return read(filepath.Join(h.dir, "stdout")) }
func (h *heart) messages() string { return "esky said:\n" + read(filepath.Join(h.dir, "stderr")) }

func read(path string) string {
	data, _ := os.ReadFile(path) // not there yet is empty
	return string(data)
}

// A gap between two beats.
type gap struct {
	end time.Time
	len time.Duration
}

func (h *heart) gaps() []gap {
	var all []gap
	for _, line := range strings.Split(h.output(), "\n") {
		var end, length int64
		if n, _ := fmt.Sscanf(line, "gap %d %d", &end, &length); n == 2 {
			all = append(all, gap{time.Unix(0, end), time.Duration(length)})
		}
	}
	return all
}

// longest is the longest gap that ended between two moments, in seconds. One
// that is too short for the heartbeat to tell counts as a millisecond, which is
// the time between two beats.
func (h *heart) longest(from, to time.Time) float64 {
	longest := time.Millisecond
	for _, g := range h.gaps() {
		if g.end.After(from) && g.end.Before(to) {
			longest = max(longest, g.len)
		}
	}
	return longest.Seconds()
}

// size is that of the newest image.
func (h *heart) size() int64 {
	images, _ := filepath.Glob(filepath.Join(h.dir, "store", "heart", "gen-*"))
	if len(images) == 0 {
		return 0
	}
	var bytes int64
	_ = filepath.WalkDir(slices.Max(images), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// median of a figure over some rounds.
func median(rounds []checkpoint, figure func(checkpoint) float64) float64 {
	var v []float64
	for _, c := range rounds {
		if f := figure(c); !math.IsNaN(f) && !math.IsInf(f, 0) {
			v = append(v, f)
		}
	}
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[len(v)/2]
}
