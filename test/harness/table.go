// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A Table collects results of the subtests of a test; it is printed at the end
// of the test with a bar before each line, which is how test/runner knows what
// to show of a test that passed.
type Table struct {
	mu      sync.Mutex
	columns []string
	rows    []string
	cells   map[[2]string]string
}

// NewTable is a table that is printed when t ends.
func NewTable(t *testing.T, title string, columns ...string) *Table {
	tab := &Table{columns: columns, cells: map[[2]string]string{}}
	t.Cleanup(func() { fmt.Print(tab.text(title)) })
	return tab
}

// Set fills a cell. A column that is not known yet comes last.
func (tab *Table) Set(row, column, value string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if !contains(tab.columns, column) {
		tab.columns = append(tab.columns, column)
	}
	if !contains(tab.rows, row) {
		tab.rows = append(tab.rows, row)
	}
	tab.cells[[2]string{row, column}] = value
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func (tab *Table) text(title string) string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "| %-24s", title)
	for _, c := range tab.columns {
		fmt.Fprintf(&b, " | %-*s", width(c), c)
	}
	b.WriteString(" |\n")
	for _, r := range tab.rows {
		fmt.Fprintf(&b, "| %-24s", r)
		for _, c := range tab.columns {
			fmt.Fprintf(&b, " | %-*s", width(c), tab.cells[[2]string{r, c}])
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

func width(column string) int { return max(len(column), 8) }
