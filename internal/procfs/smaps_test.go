// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smapsFields is what Linux 6.18 writes after each line of maps.
const smapsFields = `Size:                132 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                  84 kB
Pss:                  84 kB
Pss_Dirty:            80 kB
Shared_Clean:          1 kB
Shared_Dirty:          2 kB
Private_Clean:         3 kB
Private_Dirty:        84 kB
Referenced:           84 kB
Anonymous:            80 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  8 kB
SwapPss:               8 kB
Locked:               12 kB
THPeligible:           1
ProtectionKey:         5
VmFlags: rd wr mr mw me gd ac sd 
`

// smapsOf builds a file of n mappings.
func smapsOf(tb testing.TB, n int) string {
	tb.Helper()
	var b strings.Builder
	for i := range n {
		start := 0x7f0000000000 + i*0x2000
		path := ""
		if i%3 == 0 {
			path = fmt.Sprintf("/lib/lib%d.so", i/30)
		}
		b.WriteString(line(fmt.Sprintf("%x-%x rw-p 00000000 08:01 %d", start, start+0x1000, i%100), path))
		b.WriteString(smapsFields)
	}
	return b.String()
}

func TestParseSmaps(t *testing.T) {
	in := line("7ff0000-8000000 rw-p 00000000 00:00 0", "[stack]") + smapsFields +
		line("8000000-8001000 ---p 00000000 00:00 0", "") + "Rss:  0 kB\nVmFlags: mr mw me \n"
	got, err := ParseSmaps(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{
			Start: 0x7ff0000, End: 0x8000000, Perms: "rw-p", Path: "[stack]",
			VmFlags: []string{"rd", "wr", "mr", "mw", "me", "gd", "ac", "sd"},
			Rss:     84 << 10, Pss: 84 << 10, Anonymous: 80 << 10, AnonHuge: 2 << 20,
			SharedClean: 1 << 10, SharedDirty: 2 << 10, PrivateClean: 3 << 10, PrivateDirty: 84 << 10,
			Swap: 8 << 10, Locked: 12 << 10, KernelPageSize: 4 << 10, ProtectionKey: 5,
		},
		{Start: 0x8000000, End: 0x8001000, Perms: "---p", VmFlags: []string{"mr", "mw", "me"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !got[0].Has("gd") || got[1].Has("gd") {
		t.Error("Has does not tell which mapping grows down")
	}
}

func TestParseSmapsErrors(t *testing.T) {
	head := line("1000-2000 rw-p 00000000 00:00 0", "")
	flags := "VmFlags: rd \n"
	tests := []struct{ name, in, want string }{
		{"cut between lines", head + "Rss: 4 kB\n", "no VmFlags"},
		{"cut after the header", head + flags + head, "no VmFlags"},
		{"mapping without end", head + "Rss: 4 kB\n" + head + flags, "no VmFlags"},
		{"cut in a line", head + "Rss: 4", "cut off"},
		{"cut in the flags", head + "VmFlags: rd w", "cut off"},
		{"field before any mapping", "Rss: 4 kB\n", "outside a mapping"},
		{"field after the end", head + flags + "Rss: 4 kB\n", "outside a mapping"},
		{"no colon", head + "Rss 4 kB\n" + flags, "not a field"},
		{"unit", head + "Rss: 4 MB\n" + flags, "not a size"},
		{"number", head + "Rss: x kB\n" + flags, "not a size"},
		{"too much", head + "Rss: 18446744073709551615 kB\n" + flags, "not a size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseSmaps(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// TestSmapsCutAnywhere cuts a file at every byte. All it may give for that is
// the mappings that were complete, and only where the cut is just between two.
func TestSmapsCutAnywhere(t *testing.T) {
	in := smapsOf(t, 3)
	whole := map[int]int{0: 0, len(smapsOf(t, 1)): 1, len(smapsOf(t, 2)): 2}
	for i := range in {
		m, err := ParseSmaps(strings.NewReader(in[:i]))
		n, between := whole[i]
		switch {
		case between && (err != nil || len(m) != n):
			t.Fatalf("cut at %d, between mappings: %d of them, %v", i, len(m), err)
		case !between && !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("cut at %d: %d mappings, error %v", i, len(m), err)
		}
	}
}

// TestManyMappings: 30,000 mappings must
// cost allocations for the slice and the distinct names alone.
func TestManyMappings(t *testing.T) {
	const n = 30_000
	in := smapsOf(t, n)
	m, err := ParseSmaps(strings.NewReader(in))
	if err != nil || len(m) != n {
		t.Fatalf("%d mappings, %v", len(m), err)
	}
	last := &m[n-1]
	if last.Start != 0x7f0000000000+(n-1)*0x2000 || last.Rss != 84<<10 || len(last.VmFlags) != 8 {
		t.Errorf("last mapping is %+v", last)
	}
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := ParseSmaps(strings.NewReader(in)); err != nil {
			t.Error(err)
		}
	})
	if names := n / 30; allocs > float64(names)+200 {
		t.Errorf("%.0f allocations for %d names", allocs, names)
	}
}

func BenchmarkParseSmaps(b *testing.B) {
	in := smapsOf(b, 10_000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSmaps(strings.NewReader(in)); err != nil {
			b.Fatal(err)
		}
	}
}
