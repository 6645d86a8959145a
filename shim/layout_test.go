// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func openLibrary(t *testing.T) *elf.File {
	t.Helper()
	lib := Library()
	if lib == nil {
		t.Fatal(ErrNotBuilt)
	}
	f, err := elf.NewFile(bytes.NewReader(lib))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What programs can see is an interface: nothing more, nothing less, and
// nothing that is asked of others but what is looked up weakly.
func TestDynamicSymbols(t *testing.T) {
	symbols, err := openLibrary(t).DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range symbols {
		kind := "has"
		if s.Section == elf.SHN_UNDEF {
			kind = "wants"
		}
		if elf.ST_TYPE(s.Info) == elf.STT_OBJECT && s.Section == elf.SHN_ABS {
			continue // the version's own name
		}
		weak := ""
		if elf.ST_BIND(s.Info) == elf.STB_WEAK {
			weak = " (weak)"
		}
		got = append(got, kind+" "+s.Name+weak)
	}
	slices.Sort(got)
	want := []string{
		"has esky_checkpoint (weak)",
		"has esky_generation (weak)",
		"has esky_hold (weak)",
		"has esky_on_checkpoint (weak)",
		"has esky_release (weak)",
		"wants __environ (weak)",
		"wants esky_real (weak)", "wants esky_virtual (weak)", "wants gnu_get_libc_version (weak)",
		"wants pthread_create (weak)",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// No library is needed, nothing runs at start, no thread-local storage (which
// would take from the static TLS block of every program).
func TestNothingAtStart(t *testing.T) {
	f := openLibrary(t)
	if needed, err := f.DynString(elf.DT_NEEDED); err != nil || len(needed) != 0 {
		t.Errorf("needs %v, %v", needed, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_INIT, elf.DT_INIT_ARRAY, elf.DT_PREINIT_ARRAY, elf.DT_FINI, elf.DT_FINI_ARRAY, elf.DT_TEXTREL} {
		if v, err := f.DynValue(tag); err != nil || len(v) != 0 {
			t.Errorf("%v: %v, %v", tag, v, err)
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_TLS {
			t.Error("has thread-local storage")
		}
		if p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
			t.Errorf("%v is writable and executable", p.Type)
		}
	}
}

func TestPagesOfTheirOwn(t *testing.T) {
	l, err := Layout()
	if err != nil {
		t.Fatal(err)
	}
	if l.StubAreaSize != 128<<10 {
		t.Errorf("the record area has %d bytes", l.StubAreaSize)
	}
	own := [][2]uint64{{l.StubArea, l.StubArea + l.StubAreaSize}, {l.State, l.State + 4096}}
	for _, o := range own {
		if o[0]%4096 != 0 {
			t.Errorf("%#x is not the start of a page", o[0])
		}
	}
	symbols, err := openLibrary(t).Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "esky_stub_area" || s.Name == "esky_state" || elf.ST_TYPE(s.Info) != elf.STT_OBJECT {
			continue
		}
		for _, o := range own {
			if s.Value < o[1] && s.Value+s.Size > o[0] {
				t.Errorf("%s at %#x lies in the pages at %#x", s.Name, s.Value, o[0])
			}
		}
	}
}

func TestStubCode(t *testing.T) {
	c := StubCode()
	if len(c) == 0 || len(c) > 128 {
		t.Fatalf("%d bytes", len(c))
	}
	if c[len(c)-1] != 0xcc {
		t.Errorf("ends with %#x, want int3", c[len(c)-1])
	}
	c[0] ^= 0xff
	if bytes.Equal(c, StubCode()) {
		t.Error("the caller's copy is ours")
	}
}

func TestParseRejects(t *testing.T) {
	if _, err := parse([]byte("no library")); err == nil {
		t.Error("accepted")
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(exe); err == nil {
		t.Error("accepted a program without our symbols")
	}
}

func compile(t *testing.T, cc string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(cc); err != nil {
		t.Skipf("no %s on this machine", cc)
	}
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command(cc, append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", out}, args...)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, b)
	}
	return out
}

// TestStateMirrorsTheHeader has the C compiler say where each word is.
func TestStateMirrorsTheHeader(t *testing.T) {
	var src, want strings.Builder
	src.WriteString("#include <stdio.h>\n#include <stddef.h>\n#include \"esky_abi.h\"\nint main(void) {\n")
	typ := reflect.TypeFor[State]()
	var at uintptr
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := strings.ToLower(f.Name)
		fmt.Fprintf(&src, "printf(\"%s %%zu %%zu\\n\", offsetof(struct esky_state, %s), sizeof ((struct esky_state *)0)->%s);\n", name, name, name)
		fmt.Fprintf(&want, "%s %d %d\n", name, at, f.Type.Size())
		at += f.Type.Size() // as encoding/binary counts: no padding
	}
	constants := []struct {
		name  string
		value int
	}{
		{"ESKY_ABI", ABI}, {"ESKY_SIG_SERVICE", SignalService}, {"ESKY_SIG_REQUEST", SignalRequest},
		{"ESKY_IDLE", PhaseIdle}, {"ESKY_BEFORE", PhaseBefore}, {"ESKY_READY", PhaseReady}, {"ESKY_AFTER", PhaseAfter},
		{"ESKY_UNDECIDED", VerdictUndecided}, {"ESKY_GOES_ON", VerdictGoesOn}, {"ESKY_RESUMED", VerdictResumed},
		{"(int)sizeof(struct esky_state)", StateSize},
		{"(int)offsetof(struct esky_state, generation)", OffGeneration},
		{"(int)offsetof(struct esky_state, hold)", OffHold},
		{"(int)offsetof(struct esky_state, waiting)", OffWaiting},
		{"(int)offsetof(struct esky_state, request)", OffRequest},
		{"(int)offsetof(struct esky_state, taken)", OffTaken},
		{"(int)offsetof(struct esky_state, published)", OffPublished},
		{"(int)offsetof(struct esky_state, result)", OffResult},
		{"(int)offsetof(struct esky_state, service)", OffService},
		{"(int)offsetof(struct esky_state, ask)", OffAsk},
		{"(int)offsetof(struct esky_state, phase)", OffPhase},
		{"(int)offsetof(struct esky_state, verdict)", OffVerdict},
	}
	for _, c := range constants {
		fmt.Fprintf(&src, "printf(\"%s %%d\\n\", %s);\n", c.name, c.name)
		fmt.Fprintf(&want, "%s %d\n", c.name, c.value)
	}
	src.WriteString("puts(ESKY_MAGIC);\nreturn 0; }\n")
	want.WriteString(Magic + "\n")
	file := filepath.Join(t.TempDir(), "layout.c")
	if err := os.WriteFile(file, []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(compile(t, "gcc", "-I.", file)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.String(), string(out)); d != "" {
		t.Errorf("state.go and esky_abi.h differ (-go +c):\n%s", d)
	}
}

func TestParseState(t *testing.T) {
	good := make([]byte, StateSize)
	copy(good, Magic)
	good[8] = ABI
	if _, err := ParseState(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"short":   func(b []byte) []byte { return b[:StateSize-1] },
		"magic":   func(b []byte) []byte { b[3] ^= 1; return b },
		"version": func(b []byte) []byte { b[8]++; return b },
	} {
		if _, err := ParseState(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	path, err := Install(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Mode() != 0o755 {
		t.Errorf("mode %v", first.Mode())
	}
	if _, err := Install(dir); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.Stat(path); !os.SameFile(first, again) {
		t.Error("written a second time, though it was good")
	}
	if err := os.WriteFile(path, []byte("damaged"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); !bytes.Equal(b, Library()) {
		t.Error("a damaged library is left as it is")
	}
	if e, _ := os.ReadDir(dir); len(e) != 1 {
		t.Errorf("left behind: %v", e)
	}
	if _, err := Install(filepath.Join(dir, "absent")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

func TestStub(t *testing.T) {
	code := filepath.Join(t.TempDir(), "stub")
	if err := os.WriteFile(code, StubCode(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(compile(t, "gcc", "testdata/stub.c"), code).CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
