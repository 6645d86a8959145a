// SPDX-License-Identifier: Apache-2.0

package family

import (
	"fmt"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// sharer is a process of session 10 that shares its descriptors with a group.
func sharer(pid, ppid, group int32) *imagepb.Process {
	p := proc4(pid, ppid, 10, 10)
	p.FilesOf = group
	return p
}

// showShares writes pid+ for who is made with a share, and pid- for who leaves it.
func showShares(nodes []*Node) string {
	var all []string
	for _, n := range nodes {
		s := fmt.Sprint(n.Pid)
		if n.Share&Files != 0 {
			s += "+"
		}
		if n.Leave&Files != 0 {
			s += "-"
		}
		if below := showShares(n.Makes()); below != "" {
			s += "(" + below + ")"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestShare(t *testing.T) {
	for name, c := range map[string]struct {
		procs []*imagepb.Process
		want  string
	}{
		"nobody":              {[]*imagepb.Process{sharer(10, 1, 0), sharer(11, 10, 0)}, "10(11)"},
		"parent and child":    {[]*imagepb.Process{sharer(10, 1, 10), sharer(11, 10, 10), sharer(12, 10, 0)}, "10(11+ 12)"},
		"siblings":            {[]*imagepb.Process{sharer(10, 1, 0), sharer(11, 10, 11), sharer(12, 10, 11)}, "10-(11+ 12+)"},
		"across one":          {[]*imagepb.Process{sharer(10, 1, 10), sharer(11, 10, 0), sharer(12, 11, 10)}, "10(11+-(12+))"},
		"orphans":             {[]*imagepb.Process{sharer(10, 1, 0), sharer(11, 1, 11), sharer(12, 1, 11)}, "10-(11+ 12+)"},
		"two groups":          {[]*imagepb.Process{sharer(10, 1, 10), sharer(11, 10, 10), sharer(12, 10, 12), sharer(13, 12, 12)}, "10(11+ 12(13+))"},
		"one is left":         {[]*imagepb.Process{sharer(10, 1, 10), sharer(11, 10, 0)}, "10(11)"},
		"both without leader": {[]*imagepb.Process{sharer(11, 1, 11), sharer(12, 1, 11)}, "10-(11+ 12+)"},
	} {
		tree, err := Arrange(c.procs)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := showShares(tree.Roots); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for name, procs := range map[string][]*imagepb.Process{
		"across a member of another": {sharer(10, 1, 10), sharer(11, 10, 11), sharer(12, 11, 10), sharer(13, 11, 11)},
		"across one, both":           {sharer(10, 1, 0), sharer(11, 10, 11), sharer(12, 10, 12), sharer(13, 10, 11), sharer(14, 10, 12)},
	} {
		if tree, err := Arrange(procs); err == nil {
			t.Errorf("%s: %s", name, showShares(tree.Roots))
		}
	}
}
