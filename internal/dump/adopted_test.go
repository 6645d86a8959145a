// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

func TestWhyNotTraced(t *testing.T) {
	for _, c := range []struct {
		dumpable bool
		scope    string
		words    []string
	}{
		{false, "0", []string{"not dumpable", "PR_SET_DUMPABLE", "CAP_SYS_PTRACE"}},
		{true, "1", []string{"by its ancestors only", "ptrace_scope is 1", "CAP_SYS_PTRACE", "sysctl kernel.yama.ptrace_scope=0", "PR_SET_PTRACER"}},
		{true, "2", []string{"ptrace_scope is 2", "CAP_SYS_PTRACE"}},
		{true, "3", []string{"ptrace_scope is 3", "until the next boot"}},
		{true, "", []string{"security module", "CAP_SYS_PTRACE"}},
	} {
		got := whyNotTraced(c.dumpable, c.scope)
		for _, w := range c.words {
			if !strings.Contains(got, w) {
				t.Errorf("dumpable %v, scope %q: no word of %q: %s", c.dumpable, c.scope, w, got)
			}
		}
	}
	if got := whyNotTraced(true, "3"); strings.Contains(got, "CAP_SYS_PTRACE") {
		t.Errorf("with scope 3 no capability helps: %s", got)
	}
}

func TestRenameOutside(t *testing.T) {
	job := []*imagepb.Process{
		{Pid: 900, Sid: 7, Pgid: 900, Threads: []*imagepb.Thread{{Tid: 900}, {Tid: 1000}}},
		{Pid: 901, Sid: 7, Pgid: 7},
		{Pid: 902, Sid: 800, Pgid: 800},
		{Pid: 903, Sid: 0, Pgid: 0},
	}
	d := &Dump{meta: &imagepb.Image{Processes: job}}
	d.renameOutside()
	if job[0].Sid != 1001 || job[1].Sid != 1001 || job[1].Pgid != 1001 {
		t.Errorf("session 7 is now %d, %d, its group %d; want one number that is free, 1001", job[0].Sid, job[1].Sid, job[1].Pgid)
	}
	if job[0].Pgid != 900 || job[2].Sid != 800 || job[2].Pgid != 800 {
		t.Errorf("renamed what can stay: %v %v", job[0], job[2])
	}
	if job[3].Sid != 1002 || job[3].Pgid != 1002 {
		t.Errorf("what is outside of the pid namespace: session %d, group %d", job[3].Sid, job[3].Pgid)
	}
}
