// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// line builds one line of maps as the kernel pads it.
func line(head, path string) string { return fmt.Sprintf("%-72s %s\n", head, path) }

func TestParseMaps(t *testing.T) {
	const head = "7f0000000000-7f0000002000 r-xp 00001000 08:01 131"
	base := Mapping{Start: 0x7f0000000000, End: 0x7f0000002000, Perms: "r-xp", Offset: 0x1000, Dev: unix.Mkdev(8, 1), Ino: 131}
	tests := []struct {
		name, in string
		path     string
		deleted  bool
	}{
		{"file", line(head, "/usr/lib/libc.so.6"), "/usr/lib/libc.so.6", false},
		{"anonymous, padded", head + " \n", "", false},
		{"anonymous, bare", head + "\n", "", false},
		{"spaces", line(head, "/a b/ c  d "), "/a b/ c  d ", false},
		{"newline", line(head, `/a\012b`), "/a\nb", false},
		{"other escapes stay", line(head, `/a\040b\\c\011`), `/a\040b\\c\011`, false},
		{"deleted", line(head, "/tmp/x (deleted)"), "/tmp/x", true},
		{"deleted with newline", line(head, `/tmp/x\012 (deleted)`), "/tmp/x\n", true},
		{"named deleted and deleted", line(head, "/x (deleted) (deleted)"), "/x (deleted)", true},
		{"memfd", line(head, "/memfd:a b (deleted)"), "/memfd:a b", true},
		{"named anonymous", line(head, "[anon:glibc: malloc (deleted)]"), "[anon:glibc: malloc (deleted)]", false},
		{"named shared", line(head, "[anon_shmem:a /name]"), "/dev/zero", true},
		{"pseudo", line(head, "anon_inode:[perf_event]"), "anon_inode:[perf_event]", false},
		{"long", line(head, "/"+strings.Repeat(`x\012`, 4095)), "/" + strings.Repeat("x\n", 4095), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := base
			want.Path, want.Deleted = tt.path, tt.deleted
			if tt.name == "named shared" {
				want.SharedName = "[anon_shmem:a /name]"
			}
			got, err := ParseMaps(strings.NewReader(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]Mapping{want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseMapsNumbers(t *testing.T) {
	in := "ffffffffff600000-ffffffffffffffff --xs ffffffffffffffff fff:fffff 18446744073709551615                  [vsyscall]\n"
	got, err := ParseMaps(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{{
		Start: 0xffffffffff600000, End: 1<<64 - 1, Perms: "--xs", Offset: 1<<64 - 1,
		Dev: unix.Mkdev(0xfff, 0xfffff), Ino: 1<<64 - 1, Path: "[vsyscall]",
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m := got[0]; !m.Shared() || m.Prot() != unix.PROT_EXEC {
		t.Errorf("shared %v, prot %#x", m.Shared(), m.Prot())
	}
}

func TestParseMapsErrors(t *testing.T) {
	good := line("1000-2000 rw-p 00000000 00:00 0", "[heap]")
	tests := []struct{ name, in, want string }{
		{"cut line", good + "3000-4000 rw-p 0000", "cut off"},
		{"cut in the path", strings.TrimSuffix(good, "\n"), "cut off"},
		{"empty line", good + "\n", "not a mapping"},
		{"no range", "1000 rw-p 0 00:00 0\n", "not a mapping"},
		{"perms", "1000-2000 rw-x 0 00:00 0\n", "not a mapping"},
		{"perms order", "1000-2000 wr-p 0 00:00 0\n", "not a mapping"},
		{"hex", "1000-2000 rw-p 0g 00:00 0\n", "not a number"},
		{"overflow", "1000-10000000000000000 rw-p 0 00:00 0\n", "not a number"},
		{"backwards", "2000-1000 rw-p 0 00:00 0\n", "ends before it starts"},
		{"no inode", "1000-2000 rw-p 0 00:00\n", "not a number"},
		{"endless line", good + strings.Repeat("x", 2<<20), "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseMaps(strings.NewReader(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if m != nil {
				t.Errorf("%d mappings beside the error", len(m))
			}
		})
	}
}

// TestReadErrorIsAnError: what was read before a failing read is no answer, not
// even when it ends with a complete line.
func TestReadErrorIsAnError(t *testing.T) {
	broken := func(s string) io.Reader {
		return io.MultiReader(strings.NewReader(s), iotest.ErrReader(unix.EIO))
	}
	full := line("1000-2000 rw-p 00000000 00:00 0", "[heap]")
	checks := map[string]func() error{
		"maps":   func() error { _, err := ParseMaps(broken(full)); return err },
		"smaps":  func() error { _, err := ParseSmaps(broken(full + "VmFlags: rd \n")); return err },
		"stat":   func() error { _, err := ParseStat(broken(statLine)); return err },
		"status": func() error { _, err := ParseStatus(broken("Pid:\t1\n")); return err },
		"fdinfo": func() error { _, err := ParseFdInfo(broken("pos:\t0\nflags:\t02\n")); return err },
		"timers": func() error { _, err := ParseTimers(broken("")); return err },
		"sched":  func() error { _, err := ParseSched(broken("")); return err },
	}
	for name, check := range checks {
		if err := check(); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: error %v, want %v", name, err, unix.EIO)
		}
	}
}

// TestSmallReads feeds one byte at a time: no parser may depend on how the
// kernel cuts its answers.
func TestSmallReads(t *testing.T) {
	in := smapsOf(t, 20)
	want, err := ParseSmaps(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSmaps(iotest.OneByteReader(strings.NewReader(in)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
