// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// A build is a line of programs.txt in one of its builds.
type build struct {
	line  string   // its name
	kind  string   // glibc, static or musl
	argv  []string // program and mode
	fate  string   // carried, or refused
	words string   // that the reason of a refusal has
	about string
	shim  string // words of the refusal where it is refused without namespaces alone
	sees  string // what is not the same for the static build without namespaces
}

func (b build) name() string { return b.line + "-" + b.kind }

// programsDir has the programs and their Makefile.
func programsDir() string { return filepath.Join(harness.Root(), "test", "programs") }

// builds builds the programs and reads which there are.
func builds(t *testing.T) []build {
	t.Helper()
	if out, err := exec.Command("make", "-s", "-C", programsDir()).CombinedOutput(); err != nil {
		t.Fatalf("make -C test/programs: %v\n%s", err, out)
	}
	return listed(t)
}

// listed is what programs.txt names.
func listed(t *testing.T) []build {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(programsDir(), "programs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := parse(string(data))
	if err != nil {
		t.Fatalf("programs.txt: %v", err)
	}
	if len(all) == 0 {
		t.Fatal("programs.txt names no programs")
	}
	return all
}

// parse reads "name | program and mode | builds | expected | about" lines, of which
// some have "| what differs without namespaces".
func parse(text string) ([]build, error) {
	var all []build
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		without := map[string]string{}
		if len(f) == 6 {
			fate, words, _ := strings.Cut(f[5], " ")
			if fate != "refused" && fate != "static" || words == "" {
				return nil, fmt.Errorf("line %d: without namespaces %q is neither refused with a reason nor static with what it sees", n+1, f[5])
			}
			f, without[fate] = f[:5], words
		}
		if len(f) != 5 || f[0] == "" || f[1] == "" || f[2] == "" {
			return nil, fmt.Errorf("line %d: not five fields: %s", n+1, line)
		}
		fate, words, _ := strings.Cut(f[3], " ")
		if fate != "carried" && (fate != "refused" || words == "") {
			return nil, fmt.Errorf("line %d: expected %q is neither carried nor refused with a reason", n+1, f[3])
		}
		for _, kind := range strings.Fields(f[2]) {
			if !slices.Contains([]string{"glibc", "static", "musl"}, kind) {
				return nil, fmt.Errorf("line %d: no build %q", n+1, kind)
			}
			all = append(all, build{f[0], kind, strings.Fields(f[1]), fate, words, f[4], without["refused"], without["static"]})
		}
	}
	return all, nil
}

// install copies the program to where the user of the jobs reaches it.
func (b build) install(t *testing.T) string {
	t.Helper()
	if b.kind == "musl" {
		harness.Need(t, "musl-gcc", "musl-tools")
	}
	out := filepath.Join(harness.Dir(t), b.argv[0])
	harness.CopyProgram(t, filepath.Join(programsDir(), "build", b.kind, b.argv[0]), out)
	return out
}
