// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// docs/state.md is the matrix for readers: it says the same as programs.txt,
// with the messages of what is refused, which only a run can tell. "make
// test-state" writes it, every other run compares. Alone, by hand:
// ESKY_TEST=all ESKY_WRITE_DOCS=1 go test ./test/state -run 'TestState/NAME-'

// writeDocs is the variable of the environment that asks for it to be written.
const writeDocs = "ESKY_WRITE_DOCS"

func docPath() string { return filepath.Join(harness.Root(), "docs", "state.md") }

// What a run has told, by the line of programs.txt: the messages of what was refused,
// and which builds did without namespaces what they should.
type refusals struct {
	mu     sync.Mutex
	said   map[string]string
	proved map[string][]string
}

// prove notes that a build has passed without namespaces.
func (r *refusals) prove(b build) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proved == nil {
		r.proved = map[string][]string{}
	}
	r.proved[b.line] = append(r.proved[b.line], b.kind)
}

// note keeps what esky said; what differs from run to run is taken out.
func (r *refusals) note(b build, dir, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said == nil {
		r.said = map[string]string{}
	}
	r.said[b.line] = timeless(dir, message)
}

var (
	prefix = regexp.MustCompile(`^esky-wrap: `)
	hex    = regexp.MustCompile(`\b0x[0-9a-f]+\b|\b[0-9a-f]{8,}\b`)
	number = regexp.MustCompile(`\(\d\)|\b\d+-bit|\b\d+\b`) // of these only the last varies
)

// timeless is the last line of a message, with N for pids, numbers and addresses.
func timeless(dir, message string) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	m := prefix.ReplaceAllString(strings.TrimSpace(lines[len(lines)-1]), "")
	m = strings.ReplaceAll(m, dir, "DIR")
	m = hex.ReplaceAllString(m, "N")
	m = number.ReplaceAllStringFunc(m, func(n string) string {
		if strings.ContainsAny(n, "(-") {
			return n
		}
		return "N"
	})
	return strings.ReplaceAll(m, "|", `\|`)
}

const docHead = `<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Written by "make test-state"; what it says comes from test/programs/programs.txt. -->
# What survives

Each row is a program in ` + "`test/programs`" + ` that puts itself into one kind of state
and checks from the inside, after it was checkpointed, taken away and resumed, that
nothing has changed. What is refused is refused before the program is touched, with
the message in the table (N stands for a number), and the job runs on. One row again:
` + "`go test ./test/state -run 'TestState/NAME-'`" + `

Without namespaces ([shim mode](limits.md#shim-mode)) some are refused that are
carried elsewhere; and a static program comes back only where no other process has
its old numbers.

| name | state | | without namespaces | builds |
|---|---|---|---|---|
`

// notRun stands where nobody has seen what becomes of a program without namespaces.
const notRun = "not run: make test-all"

// due is what the column without namespaces is to say.
func due(all []build) map[string]string {
	column := map[string]string{}
	for _, b := range all {
		column[b.line] = b.withoutNamespaces()
	}
	return column
}

// seen is what may be said there: what the document has, and what this run has seen
// of all builds of a line.
func (r *refusals) seen(all []build, have string) map[string]string {
	column := map[string]string{}
	for _, row := range strings.Split(have, "\n") {
		if cells := strings.Split(row, " | "); len(cells) == 5 {
			column[strings.TrimPrefix(cells[0], "| ")] = cells[3]
		}
	}
	for line, now := range due(all) {
		missing := slices.ContainsFunc(all, func(b build) bool {
			return b.line == line && !b.leftOutInShimMode() && !slices.Contains(r.proved[line], b.kind)
		})
		if column[line] != now && missing {
			now = notRun
		}
		column[line] = now
	}
	return column
}

// doc is the text of docs/state.md.
func doc(all []build, said, without map[string]string) string {
	var b strings.Builder
	b.WriteString(docHead)
	kinds := map[string][]string{}
	for _, p := range all {
		kinds[p.line] = append(kinds[p.line], p.kind)
	}
	written := map[string]bool{}
	for _, p := range all {
		if written[p.line] {
			continue
		}
		written[p.line] = true
		fate := p.fate
		if fate == "refused" {
			fate = fmt.Sprintf("refused: “%s”", said[p.line])
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", p.line, p.about, fate, without[p.line], strings.Join(kinds[p.line], ", "))
	}
	return b.String()
}

func (b build) withoutNamespaces() string {
	switch {
	case b.shim != "":
		return "refused: " + b.shim
	case b.fate == "refused":
		return "refused"
	case b.sees != "":
		return "carried; a static one " + b.sees
	}
	return "carried"
}

// message finds what a row of the document quotes.
var message = regexp.MustCompile(`(?m)^\| (\S+) \|.*“(.*)” \|`)

// checkDoc compares the document with what was said in this run, or writes it.
// Rows that did not run keep the messages that they have.
func checkDoc(t *testing.T, r *refusals) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	have, err := os.ReadFile(docPath())
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	said := map[string]string{}
	for _, m := range message.FindAllStringSubmatch(string(have), -1) {
		said[m[1]] = m[2]
	}
	for line, now := range r.said {
		if now != said[line] && os.Getenv(writeDocs) == "" {
			t.Errorf("docs/state.md is out of date (make test-state): %s is refused with\n%s\nand it says\n%s", line, now, said[line])
		}
		said[line] = now
	}
	if os.Getenv(writeDocs) != "" {
		all := listed(t)
		if err := os.WriteFile(docPath(), []byte(doc(all, said, r.seen(all, string(have)))), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return fmt.Sprintf("it says:   %s\nshould be: %s", h[i], w[i])
		}
	}
	return fmt.Sprintf("it has %d lines, should have %d", len(h), len(w))
}

// TestDocRows compares the document with programs.txt without running anything.
func TestDocRows(t *testing.T) {
	if os.Getenv(writeDocs) != "" {
		checkDoc(t, &refusals{}) // writes the rows; TestState adds new messages
		return
	}
	data, err := os.ReadFile(docPath())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "“”") {
		t.Error("docs/state.md lacks the message of a refusal: make test-state")
	}
	quoted := regexp.MustCompile(`“.*”`)
	have := quoted.ReplaceAllString(string(data), "“”")
	all := listed(t)
	if want := quoted.ReplaceAllString(doc(all, nil, due(all)), "“”"); have != want {
		t.Errorf("docs/state.md is out of date: make test-state, or test-all for what was not run\n%s", firstDifference(have, want))
	}
}

func TestTimeless(t *testing.T) {
	got := timeless("/tmp/x1", "a warning\nesky-wrap: pid 1003 (uring): close(2) of the 32-bit descriptor 4 of /tmp/x1/file at 7f00aa112000 | ring\n")
	if want := `pid N (uring): close(2) of the 32-bit descriptor N of DIR/file at N \| ring`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
