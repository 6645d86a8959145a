// SPDX-License-Identifier: Apache-2.0

// Package layout keeps the shape of the repository: which package may import
// which.
package layout

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/esky-hpc/esky/"

// levels has every package with the height it stands at. A package may import
// only packages that stand lower: arrows go from the command through the
// monitor and the engine to the packages that know one thing each, and those
// import nothing of ours. The generated messages are what they all speak.
var levels = map[string]int{
	"internal/image/imagepb": 0,
	"internal/procfs":        0,
	"internal/cgroup":        0,
	"internal/pty":           0,
	"internal/tracee":        0,
	"internal/ids":           0,
	"internal/guard":         0,
	"internal/seed":          0,
	"internal/version":       0,
	"shim":                   0,
	"plugin/wire":            0,

	"internal/image":     1,
	"internal/socket":    1,
	"internal/family":    1,
	"internal/sched":     1,
	"internal/host":      1,
	"internal/namespace": 1,

	"internal/jobfiles": 1,
	"plugin":            1,

	"internal/agent":        2,
	"internal/pages":        2,
	"internal/store":        2,
	"internal/freeze":       2,
	"scheduler-hooks/slurm": 2,

	"scheduler-hooks/gridengine": 2,
	"scheduler-hooks/pbs":        2,
	"scheduler-hooks/lsf":        2,
	"scheduler-hooks/htcondor":   2,
	"scheduler-hooks/oar":        2,
	"scheduler-hooks/flux":       2,
	"scheduler-hooks/kubernetes": 2,
	"scheduler-hooks/nomad":      2,
	"internal/sched/schedtest":   2,
	"plugin/plugintest":          2,

	"internal/dump":    3,
	"internal/restore": 3,

	"internal/engine":      4,
	"internal/keeper":      4,
	"internal/monitor":     5,
	"internal/schedulers":  3,
	"internal/foreign":     6,
	"cmd/esky-wrap":        7,
	"cmd/esky-hook":        6,
	"internal/native":      5,
	"internal/providers":   6,
	"internal/application": 5,
	"internal/criu":        5,
	"internal/dmtcp":       5,
	"cmd/esky-provider":    7,
}

// mayNot are imports of the standard library that a package must do without.
var mayNot = map[string][]string{
	"internal/image":         {"os/exec", "syscall"},
	"internal/image/imagepb": {"os", "os/exec"},
	"internal/procfs":        {"os/exec"},
	"internal/store":         {"os/exec"},
}

func TestImports(t *testing.T) {
	for pkg, imports := range packages(t) {
		if strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "contrib/") {
			continue // they look at everything from outside
		}
		if level, known := levels[pkg]; !known {
			t.Errorf("%s has no level yet: give it one in test/layout", pkg)
		} else {
			check(t, pkg, level, imports)
		}
	}
}

func check(t *testing.T, pkg string, level int, imports []string) {
	for _, i := range imports {
		ours, yes := strings.CutPrefix(i, module)
		if yes && levels[ours] >= level {
			t.Errorf("%s (level %d) imports %s (level %d)", pkg, level, ours, levels[ours])
		}
		for _, no := range mayNot[pkg] {
			if i == no {
				t.Errorf("%s must not import %s", pkg, no)
			}
		}
	}
}

// packages are the packages of the module and what each imports, tests left
// out.
func packages(t *testing.T) map[string][]string {
	cmd := exec.Command("go", "list", "-e", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		fields := strings.Fields(line)
		all[strings.TrimPrefix(fields[0], module)] = fields[1:]
	}
	if len(all) < 5 {
		t.Fatalf("go list shows only %d packages", len(all))
	}
	return all
}
