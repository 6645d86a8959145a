// SPDX-License-Identifier: Apache-2.0

package host

import (
	"regexp"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

func TestLabelIsTheSameWhereMachinesMatch(t *testing.T) {
	here, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	label := Label(here)
	if !regexp.MustCompile(`^[a-z0-9]+-[0-9a-f]{12}$`).MatchString(label) {
		t.Errorf("label %q", label)
	}
	for what, change := range map[string]func(*imagepb.Host){
		"name":          func(h *imagepb.Host) { h.Hostname = "elsewhere" },
		"kernel":        func(h *imagepb.Host) { h.Kernel = "7.0" },
		"CPU model":     func(h *imagepb.Host) { h.CpuModel = "other" },
		"files":         func(h *imagepb.Host) { h.Files = []*imagepb.MappedFile{{Path: "/bin/sh"}} },
		"their order":   func(h *imagepb.Host) { slices.Reverse(h.CpuFeatures) },
		"architecture!": func(h *imagepb.Host) { h.Arch = "riscv64" },
		"page size!":    func(h *imagepb.Host) { h.PageSize *= 4 },
		"a feature!":    func(h *imagepb.Host) { h.CpuFeatures = append(h.CpuFeatures, "avx1024") },
		"xcr0!":         func(h *imagepb.Host) { h.Xcr0 ^= 4 },
		"xsave size!":   func(h *imagepb.Host) { h.XsaveSize += 64 },
		"vDSO!":         func(h *imagepb.Host) { h.VdsoSha256[0] ^= 1 },
	} {
		other := proto.Clone(here).(*imagepb.Host)
		change(other)
		matches := len(matchMachine(other, here)) == 0
		if same := Label(other) == label; same != matches || same == (what[len(what)-1] == '!') {
			t.Errorf("%s: same label %v, matches %v", what, same, matches)
		}
	}
}
