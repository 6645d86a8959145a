// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

func TestMatchMachine(t *testing.T) {
	here := &imagepb.Host{
		Arch: "amd64", Kernel: "6.18.1", PageSize: 4096, CpuFeatures: []string{"avx", "avx2"}, CpuModel: "AMD EPYC 7502",
		Xcr0: 7, XsaveSize: 832, VdsoSha256: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9},
	}
	tests := []struct {
		name   string
		change func(*imagepb.Host)
		want   []string
	}{
		{"same", func(*imagepb.Host) {}, nil},
		{"other name and newer kernel, same vDSO", func(h *imagepb.Host) { h.Hostname, h.Kernel, h.CpuModel = "n2", "6.19.0", "Intel" }, nil},
		{"fewer features", func(h *imagepb.Host) { h.CpuFeatures = []string{"avx"} }, nil},
		{"architecture alone", func(h *imagepb.Host) { h.Arch, h.PageSize, h.Xcr0 = "arm64", 65536, 0 }, []string{
			"architecture: the image needs arm64, this host has amd64",
		}},
		{"page size", func(h *imagepb.Host) { h.PageSize = 65536 }, []string{"page size: the image needs 65536 bytes, this host has 4096 bytes"}},
		{"two features", func(h *imagepb.Host) { h.CpuFeatures = []string{"amx_tile", "avx", "avx512f"} }, []string{
			"CPU: the image needs the feature amx_tile, this host has AMD EPYC 7502 without it",
			"CPU: the image needs the feature avx512f, this host has AMD EPYC 7502 without it",
		}},
		{"components", func(h *imagepb.Host) { h.Xcr0 = 0xe7 }, []string{
			"CPU state: the image needs 832 bytes of it with the components 0xe7, this host has 832 bytes of it with the components 0x7",
		}},
		{"layout", func(h *imagepb.Host) { h.XsaveSize = 2696 }, []string{
			"CPU state: the image needs 2696 bytes of it with the components 0x7, this host has 832 bytes of it with the components 0x7",
		}},
		{"vDSO", func(h *imagepb.Host) { h.Kernel, h.VdsoSha256 = "5.14.0", []byte{9} }, []string{
			"vDSO: the image needs the one of kernel 5.14.0 (09), this host has another, of kernel 6.18.1 (0102030405060708)",
		}},
		{"no vDSO there", func(h *imagepb.Host) { h.VdsoSha256 = nil }, []string{
			"vDSO: the image needs the one of kernel 6.18.1 (none), this host has another, of kernel 6.18.1 (0102030405060708)",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img := proto.Clone(here).(*imagepb.Host)
			tt.change(img)
			var got []string
			for _, m := range matchMachine(img, here) {
				got = append(got, m.String())
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMatchThisHost(t *testing.T) {
	img, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	exe, err := MappedFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	img.Files = []*imagepb.MappedFile{exe}
	if got := Match(img); len(got) != 0 {
		t.Errorf("this host does not match itself: %v", got)
	}
	img.CpuFeatures = append(img.CpuFeatures, "avx9999")
	img.Files = append(img.Files, &imagepb.MappedFile{Path: "/no/such/lib.so", Size: 1, BuildId: []byte{0xab}})
	want := []string{"avx9999", "/no/such/lib.so: the image needs the file of 1 bytes with build id ab, this host has no such file"}
	got := Match(img)
	if len(got) != len(want) {
		t.Fatalf("mismatches are %v", got)
	}
	for i := range want {
		if !strings.Contains(got[i].String(), want[i]) {
			t.Errorf("mismatch %d is %q, want %q in it", i, got[i], want[i])
		}
	}
}

func TestMatchFile(t *testing.T) {
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "a file")
	write(path, "contents")
	want, err := MappedFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1, 0)
	steps := []struct {
		name string
		do   func() error
		have string // "": the same
	}{
		{"nothing", func() error { return nil }, ""},
		{"touched", func() error { return os.Chtimes(path, old, old) }, ""},
		{"copied", func() error { os.Remove(path); write(path, "contents"); return nil }, ""},
		{"other contents", func() error { write(path, "CONTENTS"); return nil }, "the file of 8 bytes with sha256 "},
		{"longer", func() error { write(path, "contents and"); return nil }, "the file of 12 bytes with sha256 "},
		{"directory", func() error { os.Remove(path); return os.Mkdir(path, 0o700) }, "none that can be examined: " + path + ": not a regular file"},
		{"gone", func() error { return os.Remove(path) }, "no such file"},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
		m, ok := matchFile(want)
		if ok != (s.have == "") || !strings.HasPrefix(m.Have, s.have) || m.What != path {
			t.Errorf("%s: same %v, %s", s.name, ok, m)
		}
	}
}

// TestUnreadable: a program that the user may execute but not read has nothing
// but its size and time.
func TestUnreadable(t *testing.T) {
	want := &imagepb.MappedFile{Size: 5, MtimeNs: 7}
	for _, tt := range []struct {
		have *imagepb.MappedFile
		same bool
	}{
		{&imagepb.MappedFile{Size: 5, MtimeNs: 7, BuildId: []byte{1}}, true},
		{&imagepb.MappedFile{Size: 5, MtimeNs: 8}, false},
		{&imagepb.MappedFile{Size: 6, MtimeNs: 7}, false},
	} {
		if got := same(want, tt.have); got != tt.same {
			t.Errorf("%v: same %v", tt.have, got)
		}
	}
	if read := (&imagepb.MappedFile{Size: 5, MtimeNs: 7, Sha256: []byte{1}}); same(read, want) {
		t.Error("a file that cannot be read here counts as the same as one that was")
	}
}
