// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script makes a plugin program in a directory of its own.
func script(t *testing.T) (dir, path string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "plugins")
	path = filepath.Join(dir, "esky-provider-x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// TestTrust: each thing that lets others exchange a plugin, alone, is refused.
func TestTrust(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir, path string)
		says  string // empty: it is trusted
	}{
		"good":               {func(string, string) {}, ""},
		"sticky directory":   {func(dir, _ string) { chmod(t, dir, 0o777|os.ModeSticky) }, ""},
		"file of the group":  {func(_, path string) { chmod(t, path, 0o775) }, "others can write to"},
		"file of all":        {func(_, path string) { chmod(t, path, 0o757) }, "others can write to"},
		"directory of group": {func(dir, _ string) { chmod(t, dir, 0o775) }, "others can write to"},
		"directory of all":   {func(dir, _ string) { chmod(t, dir, 0o757) }, "others can write to"},
		"directory above":    {func(dir, _ string) { chmod(t, filepath.Dir(dir), 0o777) }, "others can write to"},
		"not executable":     {func(_, path string) { chmod(t, path, 0o644) }, "is not executable"},
		"a directory":        {func(_, path string) { os.Remove(path); os.Mkdir(path, 0o755) }, "is no ordinary file"},
		"not there":          {func(_, path string) { os.Remove(path) }, "no such file"},
		"link to open directory": {func(dir, path string) {
			open := filepath.Join(filepath.Dir(dir), "open")
			os.Mkdir(open, 0o755)
			os.Rename(path, filepath.Join(open, "p"))
			os.Symlink(filepath.Join(open, "p"), path)
			chmod(t, open, 0o777)
		}, "others can write to"},
		"file of another user": {func(_, path string) {
			if os.Getuid() != 0 {
				t.Log("only root can give files away")
				chmod(t, path, 0o777)
			}
			os.Chown(path, 12345, -1)
		}, "not trusted"},
		"directory of another user": {func(dir, _ string) {
			if os.Getuid() != 0 {
				chmod(t, dir, 0o777)
			}
			os.Chown(dir, 12345, -1)
		}, "not trusted"},
	} {
		dir, path := script(t)
		c.spoil(dir, path)
		_, err := Trust(path, "")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if _, openErr := Open(HostConfig{Found: Found{Path: path}}); err != nil && openErr == nil {
			t.Errorf("%s: it was started", name)
		}
	}
}

// TestPins: where there are checksums, they are kept.
func TestPins(t *testing.T) {
	dir, _ := script(t)
	t.Setenv(PathVariable, dir)
	found := func() error {
		f, err := Find(ProviderPrefix, "x")
		if err == nil {
			_, err = Trust(f.Path, f.Checksum)
		}
		return err
	}
	if err := found(); err != nil {
		t.Error(err)
	}
	sum := sha256.Sum256([]byte("#!/bin/sh\n"))
	pins := filepath.Join(dir, PinsFile)
	for text, says := range map[string]string{
		hex.EncodeToString(sum[:]) + "  esky-provider-x\n":                  "",
		strings.ToUpper(hex.EncodeToString(sum[:])) + " *esky-provider-x\n": "",
		hex.EncodeToString(sum[:]) + "  esky-provider-y\n":                  "it is not in",
		strings.Repeat("0", 64) + "  esky-provider-x\n":                     "its SHA-256 is",
		"": "it is not in",
	} {
		if err := os.WriteFile(pins, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := found(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// TestFind: the path's directories come in their order, and names cannot lead out.
func TestFind(t *testing.T) {
	a, _ := script(t)
	b, _ := script(t)
	os.WriteFile(filepath.Join(b, "esky-provider-only"), []byte("#!/bin/sh\n"), 0o755)
	t.Setenv(PathVariable, strings.Join([]string{"relative", a, b}, ":"))
	if f, err := Find(ProviderPrefix, "x"); err != nil || f.Path != filepath.Join(a, "esky-provider-x") {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := Find(ProviderPrefix, "only"); err != nil || f.Path != filepath.Join(b, "esky-provider-only") {
		t.Errorf("%+v, %v", f, err)
	}
	for _, name := range []string{"", "..", ".hidden", "nobody", "a b", "x\n"} {
		if f, err := Find(ProviderPrefix, name); err == nil {
			t.Errorf("%q is %+v", name, f)
		}
	}
	if all := List(ProviderPrefix); len(all) != 2 {
		t.Errorf("%+v", all)
	}
}

func TestCleanEnv(t *testing.T) {
	got := cleanEnv([]string{"PATH=/bin", "LD_PRELOAD=x", "LD_LIBRARY_PATH=y", "HOME=/h", "GODEBUG=1", "SECRET=z", "ESKY_IDS=/f"}, []string{"ESKY_PLUGIN=1"})
	if strings.Join(got, " ") != "PATH=/bin HOME=/h ESKY_PLUGIN=1" {
		t.Error(got)
	}
}

// TestLog: of a log without end a little is passed on, and nothing that moves a
// cursor.
func TestLog(t *testing.T) {
	var lines []string
	l := newLogFilter(func(s string) { lines = append(lines, s) })
	now := time.Now()
	l.now = func() time.Time { return now }
	l.read(strings.NewReader("a\x1b[2J\n\n" + strings.Repeat("x", 100000) + "\nlast\xff\n"))
	if len(lines) != 3 || lines[0] != "a [2J" || len(lines[1]) > longestLine || lines[2] != "last?" || l.lastLine() != "last?" {
		t.Errorf("%.100q", lines)
	}
	l.read(strings.NewReader(strings.Repeat("flood\n", 1000)))
	if len(lines) != mostLines+1 || !strings.Contains(lines[mostLines], "writes too much") {
		t.Errorf("%d lines", len(lines))
	}
	now = now.Add(time.Hour)
	l.read(strings.NewReader("calm\n"))
	if end := lines[mostLines+1:]; len(end) != 2 || end[1] != "calm" || !strings.HasPrefix(end[0], "983 more") {
		t.Errorf("%q", end)
	}
}
