// SPDX-License-Identifier: Apache-2.0

// Command runner runs groups of the project's tests, one after another but for
// the schedulers' labs, which run beside the others, and says at the end what was
// left out and why.
//
// It is "go test" with three differences: only what matters is shown while it
// runs (the ok line of each package, everything of a test that failed), the
// whole output goes to build/test-GROUP.log, and the reasons of all skipped
// tests are listed together at the end, where nobody overlooks them.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// A group is a set of packages and how to run them.
type group struct {
	name     string
	patterns func() ([]string, error)
	args     []string
	env      []string
	beside   bool // runs while the others do: it mostly waits
}

func groups() []group {
	fixed := func(p ...string) func() ([]string, error) {
		return func() ([]string, error) { return p, nil }
	}
	return []group{
		{name: "unit", patterns: unitPackages, args: []string{"-timeout=8m"}},
		{name: "state", patterns: fixed("./test/state"), args: []string{"-timeout=10m", "-v", "-count=1"}},
		{name: "real", patterns: fixed("./test/real"), args: []string{"-timeout=10m", "-v", "-count=1"}},
		{name: "apps", patterns: fixed("./test/apps"), args: []string{"-timeout=90m", "-v", "-count=1"}},
		{name: "fault", patterns: fixed("./test/fault"), args: []string{"-timeout=10m", "-v", "-count=1"}},
		{name: "plugin", patterns: fixed("./test/plugin", "./test/providers"), args: []string{"-timeout=10m", "-v", "-count=1"}},
		{name: "stress", patterns: fixed("./test/stress"), args: []string{"-timeout=10m", "-v", "-count=1"}},
		{
			name: "lab", patterns: fixed("./test/lab/..."),
			args:   []string{"-timeout=20m", "-v", "-count=1"},
			env:    []string{"ESKY_LAB=1"},
			beside: true,
		},
	}
}

// unitPackages are all packages but those that need a whole job to run.
func unitPackages() ([]string, error) {
	all, err := goList()
	if err != nil {
		return nil, err
	}
	var unit []string
	for _, p := range all {
		_, rest, in := strings.Cut(p, "/test/")
		if !in || rest == "layout" || rest == "runner" || rest == "harness" || rest == "bench" {
			unit = append(unit, p)
		}
	}
	return unit, nil
}

func main() {
	race := flag.Bool("race", false, "under the race detector")
	everything := flag.Bool("all", false, "also what takes long, without a time limit")
	title := flag.String("title", "", "what to call the whole in the last line")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: runner [-race] [-all] [-title WORDS] GROUP…  (unit state real apps fault plugin stress lab)")
	}
	flag.Parse()
	var extra []string
	if *race {
		extra = append(extra, "-race")
	}
	if *everything { // the later of two flags counts
		extra = append(extra, "-timeout=0")
		os.Setenv("ESKY_TEST", "all")
	}
	os.Exit(runGroups(flag.Args(), extra, *title))
}

func runGroups(names, extra []string, title string) int {
	var total summary
	start := time.Now()
	type outcome struct {
		said bytes.Buffer
		s    summary
	}
	var beside []chan *outcome
	for _, name := range names {
		g, ok := find(name)
		if !ok {
			fmt.Fprintf(os.Stderr, "runner: no group %q\n", name)
			return 64
		}
		if !g.beside {
			continue
		}
		done := make(chan *outcome, 1)
		beside = append(beside, done)
		go func() {
			o := new(outcome)
			o.s = run(g, extra, &o.said)
			done <- o
		}()
	}
	for _, name := range names {
		if g, _ := find(name); !g.beside {
			total.add(run(g, extra, os.Stdout))
		}
	}
	for _, done := range beside {
		o := <-done
		os.Stdout.Write(o.said.Bytes())
		total.add(o.s)
	}
	if title == "" {
		title = strings.Join(names, " ")
	}
	total.print(os.Stdout, title, time.Since(start))
	if len(total.failed) > 0 {
		return 1
	}
	return 0
}

func find(name string) (group, bool) {
	for _, g := range groups() {
		if g.name == name {
			return g, true
		}
	}
	return group{}, false
}
