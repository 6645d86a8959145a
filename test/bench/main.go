// SPDX-License-Identifier: Apache-2.0

// Command bench measures what checkpoints cost, beside the limits of the
// machine in the same minute: without those a number from a shared machine
// says nothing.
//
//	pause     the longest gap of a heartbeat of 1 kHz around a live checkpoint
//	dump      bytes of the image / time until it is published
//	start     from starting "esky-wrap run" until the program has its memory
//	resume    from starting "esky-wrap run" to the first beat
//	overhead  run time under esky-wrap with no checkpoint / without esky
//
// All but the last also with the engine as a plugin (esky-provider).
//
// The limits: a plain write with fsync of as many bytes, the same by O_DIRECT,
// a read by O_DIRECT, and memcpy.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

type options struct {
	esky   string
	plugin string
	dir    string
	out    string
	sizes  []int // MiB
	rounds int
	dirty  int // pages a millisecond
	only   string
	scale  int // of the programs whose overhead is measured
}

// A report is what goes into the JSON file.
type report struct {
	Machine  machine        `json:"machine"`
	Runs     []checkpoint   `json:"checkpoints,omitempty"`
	Overhead []overheadLine `json:"overhead,omitempty"`
}

func main() {
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	short := flag.Bool("short", false, "64 MiB, one round, short programs: is everything in order?")
	sizes := flag.String("sizes", "64,1024,4096", "sizes of memory in MiB")
	flag.StringVar(&o.esky, "esky", "bin/esky-wrap", "the esky-wrap to measure")
	flag.StringVar(&o.plugin, "provider", "bin/esky-provider", "the same engine as a plugin, to measure beside it")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where to write images")
	flag.StringVar(&o.out, "json", "build/bench.json", "where the numbers go")
	flag.IntVar(&o.rounds, "rounds", 5, "measurements of each size")
	flag.IntVar(&o.dirty, "dirty", 2, "pages that the heartbeat dirties a millisecond")
	flag.StringVar(&o.only, "only", "", "checkpoints or overhead: leave out the other")
	flag.Parse()
	o.scale = 40
	if *short {
		*sizes, o.rounds, o.scale = "64", 1, 3
	}
	for _, s := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "bench: -sizes %s: not a size in MiB: %s\n", *sizes, s)
			os.Exit(64)
		}
		o.sizes = append(o.sizes, n)
	}
	return o
}

func run(o options) error {
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	r := report{Machine: describeMachine(b.dir)}
	fmt.Println(r.Machine)
	if o.only != "overhead" {
		if r.Runs, err = b.checkpoints(); err != nil {
			return err
		}
		printCheckpoints(os.Stdout, r.Runs)
	}
	if o.only != "checkpoints" {
		if r.Overhead, err = b.overhead(); err != nil {
			return err
		}
		printOverhead(os.Stdout, r.Overhead)
	}
	return save(o.out, r)
}

func save(path string, r report) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("\nall numbers: %s\n", path)
	return nil
}

// bench is the place where everything happens: a directory of the ordinary
// user that jobs run as, with copies of all programs.
type bench struct {
	options
	dir string
}

func newBench(o options) (*bench, error) {
	dir, err := os.MkdirTemp(o.dir, "esky-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir}
	if err := b.fill(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() { os.RemoveAll(b.dir) }

func (b *bench) fill() error {
	for name, from := range map[string]string{"esky-wrap": b.esky, "esky-provider": b.plugin} {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"heartbeat", "overhead"} {
		source := filepath.Join("test/bench/programs", name+".c")
		out, err := exec.Command("gcc", "-O2", "-pthread", "-o", filepath.Join(b.dir, name), source).CombinedOutput()
		if err != nil {
			return fmt.Errorf("gcc %s: %w\n%s", source, err, out)
		}
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		return os.Chown(b.dir, 1000, 1000)
	}
	return nil
}
