// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func words(s string) []string { return strings.Fields(s) }

// What else a program can come to.
const (
	leftOut = "left out"
	failed  = "FAILED"
)

// writeVar asks for docs/programs.md to be written.
const writeVar = "ESKY_WRITE_DOC"

func docFile() string { return filepath.Join(harness.Root(), "docs", "programs.md") }

const docHead = `<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by "make docs/programs.md": change test/apps instead. -->
# Programs

What people run, taken away in the middle and brought back: packages of Debian,
as an ordinary user, at random moments. *Live* are checkpoints while the program
runs on, *stopped* those that end it, after which it is resumed, *crashed* is the
whole job killed at once and resumed from its last image. *Pause* is the longest
that it stood still. *Same* means: what it came to is byte for byte what it comes
to undisturbed. [testing.md](testing.md) says how to run this.

| program | version | what it exercises | live | stopped | crashed | pause | result |
|---|---|---|---|---|---|---|---|
`

// A doc collects the rows of docs/programs.md.
type doc struct {
	mu   sync.Mutex
	rows map[string]string
}

// newDoc is a doc that is written when t ends, if that was asked for. What was
// not run, or failed, keeps the row that it has.
func newDoc(t *testing.T) *doc {
	d := &doc{rows: map[string]string{}}
	if os.Getenv(writeVar) == "" {
		return d
	}
	old, err := os.ReadFile(docFile())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, line := range strings.SplitAfter(string(old), "\n") {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok {
			d.rows[name] = line
		}
	}
	t.Cleanup(func() {
		if err := os.WriteFile(docFile(), []byte(d.text()), 0o644); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *doc) set(name, row string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[name] = row
}

func (d *doc) text() string {
	var b strings.Builder
	b.WriteString(docHead)
	for _, p := range programs() {
		row, run := d.rows[p.name]
		if !run {
			row = p.row(&result{outcome: "not run yet"})
		}
		b.WriteString(row)
	}
	return b.String()
}

// show puts the result into the table and the doc.
func (r *result) show(table *harness.Table, d *doc, p program) {
	table.Set(p.name, "live", fmt.Sprint(r.live))
	table.Set(p.name, "stopped", fmt.Sprint(r.stopped))
	table.Set(p.name, "crashed", fmt.Sprint(r.crashed))
	table.Set(p.name, "pause", r.paused())
	table.Set(p.name, "result", r.outcome)
	if r.outcome != leftOut && r.outcome != failed {
		d.set(p.name, p.row(r))
	}
}

func (p program) row(r *result) string {
	told := r.outcome
	if p.crash != "" {
		told += "; not crashed: " + p.crash
	}
	return fmt.Sprintf("| %s | %s | %s | %d | %d | %d | %s | %s |\n",
		p.name, p.version(), p.uses, r.live, r.stopped, r.crashed, r.paused(), told)
}

// paused is the longest pause, to a tenth of a millisecond.
func (r *result) paused() string { return r.pause.Round(100 * time.Microsecond).String() }

// version of the first package, as Debian counts.
func (p program) version() string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}", p.packages[0]).Output()
	if err != nil {
		return "?"
	}
	return string(out)
}

// TestDoc is whether docs/programs.md has exactly the rows of the table here.
func TestDoc(t *testing.T) {
	data, err := os.ReadFile(docFile())
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) == 8 && strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| program ") {
			got = append(got, strings.TrimPrefix(cells[0], "| ")+": "+cells[2])
		}
	}
	for _, p := range programs() {
		want = append(want, p.name+": "+p.uses)
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/programs.md is out of date: make docs/programs.md\nit has  %q\nwant    %q", got, want)
	}
}

// TestQuick is whether what runs by default has its packages installed by
// continuous integration.
func TestQuick(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(harness.Root(), ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.FieldsFunc(string(data), func(r rune) bool { return strings.ContainsRune(" '\n\t=", r) })
	always := words("bash dash coreutils gcc make perl golang-go") // a build needs them, or Debian itself does
	for _, p := range programs() {
		for _, pkg := range p.packages {
			if p.quick && !slices.Contains(listed, pkg) && !slices.Contains(always, pkg) {
				t.Errorf("%s is quick, but .ci/run does not install %s", p.name, pkg)
			}
		}
	}
}

// TestDirectories is whether each directory below programs has a row.
func TestDirectories(t *testing.T) {
	entries, err := os.ReadDir("programs")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, e := range entries {
		if e.IsDir() {
			got = append(got, e.Name())
		}
	}
	for _, p := range programs() {
		want = append(want, p.name)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("below programs is %q, the table has %q", got, want)
	}
}
