// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// What can befall a file after the checkpoint, at which it held "0123456789".
var fates = map[string]func(path string) error{
	"untouched": func(string) error { return nil },
	"grown": func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString("more")
		return err
	},
	"cut":       func(path string) error { return os.Truncate(path, 4) },
	"rewritten": func(path string) error { return os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)) },
	"gone":      os.Remove,
}

// TestFiles: what becomes of files under each policy: "" nothing is said or
// done, "cut" cut back, "note" taken as it is, "refuse".
func TestFiles(t *testing.T) {
	for _, c := range []struct {
		fate, mode               string
		rollback, accept, strict string
	}{
		{"untouched", "written", "", "", ""},
		{"untouched", "read", "", "", ""},
		{"grown", "written", "cut", "cut", "refuse"},
		{"grown", "read", "refuse", "note", "refuse"},
		{"cut", "written", "refuse", "note", "refuse"},
		{"cut", "read", "refuse", "note", "refuse"},
		{"rewritten", "written", "note", "note", "refuse"},
		{"rewritten", "read", "refuse", "note", "refuse"},
		{"gone", "written", "refuse", "refuse", "refuse"},
	} {
		for policy, want := range map[FilePolicy]string{Rollback: c.rollback, Accept: c.accept, Strict: c.strict} {
			t.Run(fmt.Sprintf("%s %s %s", c.fate, c.mode, policy), func(t *testing.T) { oneFile(t, c.fate, c.mode, policy, want) })
		}
	}
}

func oneFile(t *testing.T, fate, mode string, policy FilePolicy, want string) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	open := &imagepb.OpenFile{Kind: imagepb.OpenFile_REGULAR, Path: path, Size: 10, MtimeNs: st.Mtim.Nano(), Dev: st.Dev, Ino: st.Ino}
	if mode == "written" {
		open.Flags = unix.O_RDWR
	}
	if err := fates[fate](path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	var notes []string
	saved := filepath.Join(t.TempDir(), "saved")
	f := &files{
		policy: policy, saved: saved, meta: &imagepb.Image{Generation: 3, OpenFiles: []*imagepb.OpenFile{open}},
		note: func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) },
	}
	err := f.check(os.Getpid())
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Errorf("the check itself changed the file to %q", after)
	}
	if refused := err != nil; refused != (want == "refuse") {
		t.Fatalf("error %v, want %q", err, want)
	}
	if want == "refuse" {
		return
	}
	if err := f.putBack(); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(path)
	kept, _ := filepath.Glob(filepath.Join(saved, "*"))
	if want != "cut" {
		if string(after) != string(before) || len(kept) != 0 || (len(notes) == 1) != (want == "note") {
			t.Errorf("%q, kept %v, said %q", after, kept, notes)
		}
		return
	}
	if string(after) != "0123456789" || len(kept) != 1 || len(notes) != 1 || !strings.Contains(notes[0], kept[0]) {
		t.Fatalf("%q, kept %v, said %q", after, kept, notes)
	}
	if tail, _ := os.ReadFile(kept[0]); string(tail) != "more" {
		t.Errorf("kept %q", tail)
	}
}
