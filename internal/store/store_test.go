// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJobKeys(t *testing.T) {
	for _, good := range []string{"a", "slurm-1234_7", "sge-55.3", "-", "A.b_c-9", strings.Repeat("x", 200)} {
		if err := checkJob(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", ".a", "a/b", "a b", "a\n", "ä", "a\x00", strings.Repeat("x", 201)} {
		if _, err := Open(t.TempDir(), bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
		if _, err := Existing(t.TempDir(), bad); err == nil || errors.Is(err, ErrNoJob) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOpenCreatesPrivately(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	s := mustOpen(t, dir)
	for _, d := range []string{dir, s.Dir()} {
		fi, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %#o", d, fi.Mode().Perm())
		}
	}
	if s.Dir() != filepath.Join(dir, job) || s.Saved() != filepath.Join(dir, job, "saved") {
		t.Errorf("%s, %s", s.Dir(), s.Saved())
	}
	mustOpen(t, dir)
}

func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := Open("./.esky", job)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	if tok := mustTake(t, s); tok != 1 || !filepath.IsAbs(s.Dir()) {
		t.Errorf("token %d in %s", tok, s.Dir())
	}
}

func TestUnsafeDirectories(t *testing.T) {
	for what, tc := range map[string]struct {
		prepare func(dir string) error
		good    bool
	}{
		"ordinary":               {func(d string) error { return os.Chmod(d, 0o755) }, true},
		"as /tmp":                {func(d string) error { return os.Chmod(d, 0o777|os.ModeSticky) }, true},
		"all write it":           {func(d string) error { return os.Chmod(d, 0o777) }, false},
		"group writes it":        {func(d string) error { return os.Chmod(d, 0o770) }, false},
		"all write the job's":    {func(d string) error { return mkdirMode(d+"/"+job, 0o702|os.ModeSticky) }, false},
		"group writes the job's": {func(d string) error { return mkdirMode(d+"/"+job, 0o770) }, false},
		"a link for the job":     {func(d string) error { os.Mkdir(d+"/other", 0o700); return os.Symlink("other", d+"/"+job) }, false},
		"a link to nothing":      {func(d string) error { return os.Symlink("nothing", d+"/"+job) }, false},
		"a file for the job":     {func(d string) error { return os.WriteFile(d+"/"+job, nil, 0o600) }, false},
	} {
		t.Run(what, func(t *testing.T) { checkSafety(t, tc.prepare, tc.good) })
	}
	if os.Geteuid() != 0 {
		return // nobody else can give directories away
	}
	t.Run("another owner", func(t *testing.T) {
		checkSafety(t, func(d string) error { return os.Chown(d, 4711, -1) }, false)
	})
	t.Run("another owner, as /tmp", func(t *testing.T) {
		checkSafety(t, func(d string) error {
			return errors.Join(os.Chmod(d, 0o777|os.ModeSticky), os.Chown(d, 4711, -1))
		}, false)
	})
	t.Run("another owner of the job's", func(t *testing.T) {
		checkSafety(t, func(d string) error {
			return errors.Join(os.Mkdir(d+"/"+job, 0o700), os.Chown(d+"/"+job, 4711, -1))
		}, false)
	})
}

func mkdirMode(dir string, mode os.FileMode) error {
	return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)) // in spite of the umask
}

func checkSafety(t *testing.T, prepare func(string) error, good bool) {
	t.Helper()
	dir := t.TempDir()
	if err := prepare(dir); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, job)
	if (err == nil) != good {
		t.Errorf("open: %v", err)
	}
	if after, _ := os.ReadDir(dir); !good && len(after) > len(before) {
		t.Error("it was refused, but something was made in it")
	}
	if _, err := Existing(dir, job); (err == nil) != good {
		t.Errorf("existing: %v", err)
	}
}

func TestLinkToTheStoreIsFine(t *testing.T) {
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "store")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	mustTake(t, mustOpen(t, link))
	if tok := mustTake(t, mustOpen(t, real)); tok != 2 {
		t.Errorf("token %d", tok)
	}
}

func TestExistingAndList(t *testing.T) {
	dir := t.TempDir()
	if _, err := Existing(dir, job); !errors.Is(err, ErrNoJob) {
		t.Errorf("%v", err)
	}
	if _, err := Existing(dir+"/none", job); !errors.Is(err, ErrNoJob) {
		t.Errorf("%v", err)
	}
	if jobs, err := List(dir); err != nil || len(jobs) > 0 {
		t.Errorf("%q, %v", jobs, err)
	}
	if _, err := List(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, j := range []string{"b", "a"} {
		if _, err := Open(dir, j); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(dir+"/.hidden", 0o700), os.Symlink("a", dir+"/link"),
		os.WriteFile(dir+"/file", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if jobs, err := List(dir); err != nil || !slices.Equal(jobs, []string{"a", "b"}) {
		t.Errorf("%q, %v", jobs, err)
	}
	s, err := Existing(dir, "a")
	if err != nil || s.Dir() != dir+"/a" {
		t.Errorf("%v", err)
	}
}

func TestRecords(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	h, err := s.Holder()
	if h != nil || err != nil {
		t.Errorf("holder before the first: %v, %v", h, err)
	}
	d, err := s.Done()
	if d != nil || err != nil {
		t.Errorf("done before the end: %v, %v", d, err)
	}
	if p, err := s.Progress(); p != (Progress{}) || err != nil {
		t.Errorf("progress before the first: %v, %v", p, err)
	}
	now := time.Unix(1700000000, 123456789).UTC()
	tok := mustTake(t, s)
	holder := Holder{Token: tok, Host: "n1", Scheduler: "slurm", JobID: "12_3", Attempt: 4, MonitorPid: 5, InitPid: 6,
		Socket: "/run/x y", Started: now, End: now.Add(time.Hour), Command: []string{"./p", "a b\n"}}
	done := DoneRecord{Status: 137, Time: now, Host: "n1", Attempt: 4}
	progress := Progress{Generation: 7, CPU: 3 * time.Second, Count: 2}
	if err := errors.Join(s.SetHolder(holder), s.SetDone(done), s.SetProgress(progress)); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Holder(); err != nil || cmp.Diff(&holder, h) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(&holder, h))
	}
	if d, err := s.Done(); err != nil || cmp.Diff(&done, d) != "" {
		t.Errorf("%v: %s", err, cmp.Diff(&done, d))
	}
	if p, err := s.Progress(); err != nil || p != progress {
		t.Errorf("%v, %v", p, err)
	}
}

func TestBrokenRecordsAreErrors(t *testing.T) {
	for what, text := range map[string]string{
		"empty": "", "cut": `{"Status": 1`, "not JSON": "done", "wrong type": `{"Status": "x"}`,
		"more after it": "{}\n{}", "too long": "{}" + strings.Repeat(" ", maxRecord),
	} {
		s := mustOpen(t, t.TempDir())
		if err := os.WriteFile(s.path(doneFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := s.Done(); err == nil {
			t.Errorf("%s: %v", what, d)
		}
	}
}

func TestLinksInTheStoreAreNotFollowed(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte(`{"Status": 0}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{doneFile, "lock"} {
		if err := os.Symlink(victim, s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := s.Done(); err == nil {
		t.Errorf("done record through a link: %v", d)
	}
	if f, err := s.TryLock(); err == nil {
		f.Close()
		t.Error("lock through a link")
	}
	if err := s.SetDone(DoneRecord{Status: 5}); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Done(); err != nil || d.Status != 5 {
		t.Errorf("%v, %v", d, err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != `{"Status": 0}` {
		t.Errorf("the file behind the link is now %q, %v", b, err)
	}
}
