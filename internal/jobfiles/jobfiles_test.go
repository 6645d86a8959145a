// SPDX-License-Identifier: Apache-2.0

package jobfiles

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

const content = "0123456789"

// record describes a file as a checkpoint does, with a copy of what is in it.
func record(t *testing.T, path string, written bool) *imagepb.JobFile {
	t.Helper()
	st, err := Stat(path, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		t.Fatal(err)
	}
	f := &imagepb.JobFile{Path: path, Written: written, Copy: "1"}
	Describe(f, &st)
	return f
}

// job is a rollback of these files; what it says goes to said.
func job(t *testing.T, said *[]string, o Options) *Job {
	t.Helper()
	o.Generation, o.SameHost, o.Saved = 3, true, filepath.Join(t.TempDir(), "saved")
	o.Open = func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	o.Note = func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }
	return New(o)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// TestPutBack: whatever has become of a file of the job, it has its content again,
// and nothing that was there is lost.
func TestPutBack(t *testing.T) {
	for name, fate := range map[string]struct {
		befalls func(path string) error
		kept    string // in the directory for what was replaced
	}{
		"grown":     {func(p string) error { return os.WriteFile(p, []byte(content+"more"), 0o600) }, "more"},
		"rewritten": {func(p string) error { return os.WriteFile(p, []byte("abcdefghij"), 0o600) }, "abcdefghij"},
		"cut":       {func(p string) error { return os.Truncate(p, 4) }, content[:4]},
		"gone":      {os.Remove, ""},
		"replaced": {func(p string) error {
			return errors.Join(os.WriteFile(p+".new", []byte("another"), 0o600), os.Rename(p+".new", p))
		}, "another"},
		"below nothing": {func(p string) error { return os.RemoveAll(filepath.Dir(p)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dir", "file")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, path, content)
			f := record(t, path, true)
			if err := fate.befalls(path); err != nil {
				t.Fatal(err)
			}
			before := read(path)
			var said []string
			j := job(t, &said, Options{Policy: Rollback, Files: []*imagepb.JobFile{f}})
			if err := errors.Join(j.Check(), j.Stage()); err != nil {
				t.Fatal(err)
			}
			if read(path) != before {
				t.Errorf("the file was touched before the end: %q", read(path))
			}
			if name == "gone" && read(j.Now(path)) != content {
				t.Errorf("the file that the job opens has %q", read(j.Now(path)))
			}
			if err := j.PutBack(); err != nil {
				t.Fatal(err)
			}
			if read(path) != content || len(said) != 1 {
				t.Errorf("%q; said %q", read(path), said)
			}
			kept, _ := filepath.Glob(filepath.Join(j.o.Saved, "*"))
			if fate.kept == "" && len(kept) > 0 || fate.kept != "" && (len(kept) != 1 || read(kept[0]) != fate.kept || !strings.Contains(said[0], kept[0])) {
				t.Errorf("kept %v; said %q", kept, said)
			}
			st, err := Stat(path, 0)
			if err != nil || nano(st.Mtime) != f.MtimeNs {
				t.Errorf("time %d, was %d, %v", nano(st.Mtime), f.MtimeNs, err)
			}
		})
	}
}

// TestDiscard: a resume that fails leaves nothing behind.
func TestDiscard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	path := filepath.Join(dir, "below", "file")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, content)
	f := record(t, path, true)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var said []string
	j := job(t, &said, Options{Policy: Rollback, Files: []*imagepb.JobFile{f}})
	if err := errors.Join(j.Check(), j.Stage()); err != nil {
		t.Fatal(err)
	}
	j.Discard()
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
}

// TestScratch: what was made since in a directory of the job's own is moved away,
// and what is only read elsewhere and has changed is not touched.
func TestScratch(t *testing.T) {
	root := t.TempDir()
	mine, stranger := filepath.Join(root, "mine"), filepath.Join(root, "new")
	write(t, mine, content)
	f := record(t, mine, true)
	write(t, stranger, "made since")
	var said []string
	j := job(t, &said, Options{Policy: Rollback, Files: []*imagepb.JobFile{f}, Scratch: []string{root}})
	if err := errors.Join(j.Check(), j.Stage(), j.PutBack()); err != nil {
		t.Fatal(err)
	}
	kept, _ := filepath.Glob(filepath.Join(j.o.Saved, "*"))
	if _, err := os.Lstat(stranger); !os.IsNotExist(err) || len(kept) != 1 || read(kept[0]) != "made since" || read(mine) != content {
		t.Errorf("kept %v, said %q, %v", kept, said, err)
	}
	var changed *ChangedError
	write(t, stranger, "again")
	if err := job(t, &said, Options{Policy: Strict, Files: []*imagepb.JobFile{f}, Scratch: []string{root}}).Check(); !errors.As(err, &changed) {
		t.Errorf("error %v", err)
	}
	read := record(t, mine, false)
	write(t, mine, "changed by others")
	if err := job(t, &said, Options{Policy: Rollback, Files: []*imagepb.JobFile{read}}).Check(); !errors.As(err, &changed) {
		t.Errorf("error %v", err)
	}
}

func TestWhereLocal(t *testing.T) {
	env := func(vars map[string]string) func(string) string { return func(k string) string { return vars[k] } }
	all, private := Scratch(env(map[string]string{"TMPDIR": "/local/tmp.4711", "JOB_ID": "4711", "ESKY_SCRATCH": "/fast"}))
	if fmt.Sprint(all, private) != "[/fast /local/tmp.4711] [/fast /local/tmp.4711]" {
		t.Errorf("%v, private %v", all, private)
	}
	if all, private = Scratch(env(map[string]string{"TMPDIR": "/scratch/me", "JOB_ID": "4711"})); len(all) != 1 || len(private) != 0 {
		t.Errorf("%v, private %v", all, private)
	}
	for path, want := range map[string]bool{"/tmp/x": true, "/tmpx": false, "/dev/shm/sem.a": true, "/fast/a/b": true, "/home/x": false} {
		if Local(path, []string{"/fast"}) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
