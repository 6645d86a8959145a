// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// An event is one line of "go test -json" (see "go doc test2json").
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// A summary is what is told at the end.
type summary struct {
	passed  int
	failed  []string
	skipped []string
}

func (s *summary) add(o summary) {
	s.passed += o.passed
	s.failed = append(s.failed, o.failed...)
	s.skipped = append(s.skipped, o.skipped...)
}

func (s *summary) print(w io.Writer, title string, took time.Duration) {
	fmt.Fprintln(w)
	for _, f := range s.failed {
		fmt.Fprintf(w, "FAILED   %s\n", f)
	}
	for _, k := range s.skipped {
		fmt.Fprintf(w, "LEFT OUT %s\n", k)
	}
	fmt.Fprintf(w, "%s: %d passed, %d failed, %d left out, in %s\n",
		title, s.passed, len(s.failed), len(s.skipped), took.Round(time.Second))
}

func goList() ([]string, error) {
	out, err := exec.Command("go", "list", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// run runs one group and shows it as it goes.
func run(g group, extra []string, show io.Writer) summary {
	fmt.Fprintf(show, "== %s\n", g.name)
	start := time.Now()
	s, err := goTest(g, extra, show)
	if err != nil {
		fmt.Fprintf(show, "runner: %s: %v\n", g.name, err)
		s.failed = append(s.failed, g.name+": "+err.Error())
	}
	fmt.Fprintf(show, "== %s took %s\n", g.name, time.Since(start).Round(time.Second))
	return s
}

func goTest(g group, extra []string, show io.Writer) (summary, error) {
	patterns, err := g.patterns()
	if err != nil {
		return summary{}, err
	}
	log, err := logFile(g.name)
	if err != nil {
		return summary{}, err
	}
	defer log.Close()
	args := append([]string{"test", "-json"}, g.args...)
	cmd := exec.Command("go", append(append(args, extra...), patterns...)...)
	cmd.Env = append(os.Environ(), g.env...)
	cmd.Stderr = io.MultiWriter(os.Stderr, log)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return summary{}, err
	}
	if err := cmd.Start(); err != nil {
		return summary{}, err
	}
	s := follow(out, log, show)
	return s, testError(cmd.Wait(), s)
}

// testError is the error of "go test" that no failed test explains.
func testError(err error, s summary) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(s.failed) > 0 {
		return nil
	}
	return err
}

func logFile(name string) (*os.File, error) {
	if err := os.MkdirAll("build", 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join("build", "test-"+name+".log"),
		os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
}

// follow reads the events of one "go test".
func follow(in io.Reader, log, show io.Writer) summary {
	f := follower{log: log, show: show, output: map[string]*strings.Builder{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(show, lines.Text()) // of the go command itself
			continue
		}
		f.event(e)
	}
	if err := lines.Err(); err != nil {
		f.s.failed = append(f.s.failed, "reading go test: "+err.Error())
	}
	return f.s
}

type follower struct {
	s         summary
	log, show io.Writer
	output    map[string]*strings.Builder // of each test that still runs
}

func (f *follower) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(f.log, e.Output)
		fmt.Fprint(f.show, e.Output)
	case "output":
		f.line(key, e)
	case "fail": // a build that failed is told by its package once more
		f.s.failed = append(f.s.failed, strings.TrimSpace(short(key))+f.why(key))
		f.end(key, e)
	case "skip":
		f.end(key, e)
	case "pass":
		if e.Test != "" {
			f.s.passed++
			fmt.Fprint(f.show, table(f.output[key]))
		}
		delete(f.output, key)
	}
}

func (f *follower) line(key string, e event) {
	fmt.Fprint(f.log, e.Output)
	if e.Test == "" && (strings.HasPrefix(e.Output, "ok ") || strings.HasPrefix(e.Output, "FAIL\t")) {
		fmt.Fprint(f.show, e.Output)
		return
	}
	b := f.output[key]
	if b == nil {
		b = &strings.Builder{}
		f.output[key] = b
	}
	b.WriteString(e.Output)
}

// why is what a test that failed said of it, for the list at the end.
func (f *follower) why(key string) string {
	if b := f.output[key]; b != nil {
		if why := reason(b.String()); why != noReason {
			return ": " + why
		}
	}
	return ""
}

// end is called for a test that failed or was skipped. The package as a whole
// is skipped when it has no tests: that is nothing to tell.
func (f *follower) end(key string, e event) {
	text := ""
	if b := f.output[key]; b != nil {
		text = b.String()
	}
	delete(f.output, key)
	if e.Action == "skip" {
		if e.Test != "" {
			f.s.skipped = append(f.s.skipped, short(key)+": "+reason(text))
		}
		return
	}
	fmt.Fprint(f.show, text)
}

// table picks the lines of a passed test that are meant to be seen: those that
// start with a bar, as harness.Table prints them.
func table(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	var out strings.Builder
	for _, l := range strings.SplitAfter(b.String(), "\n") {
		if strings.HasPrefix(strings.TrimSpace(l), "|") {
			out.WriteString(strings.TrimLeft(l, " "))
		}
	}
	return out.String()
}

const noReason = "no reason given"

// reason is what the test said when it skipped or failed: its last "file.go:1: words".
func reason(text string) string {
	why := noReason
	for _, l := range strings.Split(text, "\n") {
		if _, words, ok := strings.Cut(l, ".go:"); ok && !strings.HasPrefix(l, "=== ") {
			if _, words, ok := strings.Cut(words, ": "); ok {
				why = words
			}
		}
	}
	return why
}

func short(key string) string {
	return strings.TrimPrefix(key, "github.com/esky-hpc/esky/")
}
