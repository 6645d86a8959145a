// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	notRun  = "not run yet"
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
to undisturbed. *Without namespaces* is the same once more in
[shim mode](limits.md#shim-mode): how often live, stopped, crashed, or why not.
[testing.md](testing.md) says how to run this.

| program | version | what it exercises | live | stopped | crashed | pause | result | without namespaces |
|---|---|---|---|---|---|---|---|---|
`

// A doc is docs/programs.md: the cells of its rows, by the names of the programs.
type doc struct {
	mu   sync.Mutex
	rows map[string][]string
}

// readDoc takes the cells of all rows.
func readDoc(t *testing.T) map[string][]string {
	data, err := os.ReadFile(docFile())
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | ")
		if len(cells) == 9 && cells[0] != "program" {
			rows[cells[0]] = cells
		}
	}
	return rows
}

// newDoc is a doc that is written when t ends, if that was asked for. What was
// not run, or failed, keeps what it has.
func newDoc(t *testing.T) *doc {
	d := &doc{rows: readDoc(t)}
	if os.Getenv(writeVar) != "" {
		t.Cleanup(func() {
			if err := os.WriteFile(docFile(), []byte(d.text()), 0o644); err != nil {
				t.Error(err)
			}
		})
	}
	return d
}

// set changes cells of a program's row.
func (d *doc) set(p program, r *result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	row := d.row(p)
	if r.mode.flags == nil {
		copy(row[1:], []string{p.version(), p.uses, fmt.Sprint(r.live), fmt.Sprint(r.stopped), fmt.Sprint(r.crashed), r.paused(), r.outcome})
	} else if row[8] = r.outcome; p.shim == "" {
		row[8] = fmt.Sprintf("%s (%d, %d, %d)", r.outcome, r.live, r.stopped, r.crashed)
	}
	d.rows[p.name] = row
}

// row is what there is of a program.
func (d *doc) row(p program) []string {
	if cells := d.rows[p.name]; cells != nil {
		return cells
	}
	return []string{p.name, "", p.uses, "0", "0", "0", "0s", notRun, notRun}
}

func (d *doc) text() string {
	var b strings.Builder
	b.WriteString(docHead)
	for _, p := range programs() {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(d.row(p), " | "))
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
		d.set(p, r)
	}
}

// paused is the longest pause, to a tenth of a millisecond.
func (r *result) paused() string { return r.pause.Round(100 * time.Microsecond).String() }

// version of the first package, as Debian counts.
func (p program) version() string {
	if p.build != nil {
		return runtime.Version()
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}", p.packages[0]).Output()
	if err != nil {
		return "?"
	}
	return string(out)
}

// TestDoc is whether docs/programs.md has exactly the rows of the table here, each
// of which was run in both modes.
func TestDoc(t *testing.T) {
	rows := readDoc(t)
	for _, p := range programs() {
		row := rows[p.name]
		if len(row) == 0 || row[2] != p.uses || row[7] == notRun || row[8] == notRun {
			t.Errorf("docs/programs.md is out of date (make docs/programs.md): of %s it has %q", p.name, row)
		}
		delete(rows, p.name)
	}
	for name := range rows {
		t.Errorf("docs/programs.md has %s, which is no program", name)
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
	always := words("bash bsdutils dash coreutils gcc make perl golang-go") // a build needs them, or Debian itself does
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
