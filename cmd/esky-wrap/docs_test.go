// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/monitor"
)

// The pages for users must know every command, flag and status there is.
func TestDocsAreComplete(t *testing.T) {
	page := read(t, "../../docs/command.md")
	for _, c := range app().Commands {
		if !strings.Contains(page, "\nesky-wrap "+c.Name) {
			t.Errorf("docs/command.md does not show esky-wrap %s", c.Name)
		}
		for _, f := range c.VisibleFlags() {
			if name := f.Names()[0]; name != "help" && !strings.Contains(page, "--"+name) {
				t.Errorf("docs/command.md does not tell of --%s of %s", name, c.Name)
			}
		}
	}
	for _, name := range []string{"portable", "cpu-baseline", "provider"} {
		if !strings.Contains(page, "--"+name) {
			t.Errorf("docs/command.md does not say that --%s is refused", name)
		}
	}
	statuses := read(t, "../../docs/exit-codes.md")
	for _, n := range []int{
		monitor.ExitUsage, monitor.ExitDamaged, monitor.ExitNotFound, monitor.ExitCannot, monitor.ExitInternal,
		monitor.ExitNotWritable, monitor.ExitAgain, 126, 127,
	} {
		if !strings.Contains(statuses, fmt.Sprintf("\n| %d |", n)) {
			t.Errorf("docs/exit-codes.md does not have %d", n)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
