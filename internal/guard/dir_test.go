// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const secret = "what only root may read\n"

// home is a user's directory, and a file beside it that nobody may get at by it.
func home(t *testing.T) (dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "home"), filepath.Join(top, "outside")
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Mkdir(outside, 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "file"), []byte(secret), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "good"), []byte("good"), 0o600))
	return dir, outside
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	must(t, err)
	t.Cleanup(d.Close)
	return d
}

func TestNoWayOutOfADirectory(t *testing.T) {
	dir, outside := home(t)
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "link")))
	must(t, os.Symlink("good", filepath.Join(dir, "inside")))
	must(t, os.Symlink(".", filepath.Join(dir, "here")))
	fd, err := unix.Open(outside, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Symlink("/proc/self/fd/"+strconv.Itoa(fd), filepath.Join(dir, "magic")))
	d := open(t, dir)
	for _, name := range []string{
		"link", "out/file", "inside", "here/good", "magic/file", "../outside/file", "./../outside/file", outside + "/file", "..", "", "no",
	} {
		if text, err := d.ReadFile(name, 100); err == nil {
			t.Errorf("%q: %q", name, text)
		}
	}
	for _, name := range []string{"out", "magic", "..", outside, "good"} {
		if s, err := d.Sub(name); err == nil {
			t.Errorf("%q was opened as a directory", name)
			s.Close()
		}
	}
	if text, err := d.ReadFile("good", 4); err != nil || string(text) != "good" {
		t.Errorf("%q, %v", text, err)
	}
	must(t, d.Remove("link"))
	for _, name := range []string{"out/file", "../outside/file", "..", "."} {
		if d.Remove(name) == nil {
			t.Errorf("%q was removed", name)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
}

// What lies where a file is written is replaced, and not written to.
func TestWriteFileReplaces(t *testing.T) {
	dir, outside := home(t)
	victim := filepath.Join(outside, "file")
	must(t, os.Symlink(victim, filepath.Join(dir, "link")))
	must(t, os.Link(victim, filepath.Join(dir, "hard")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	d := open(t, dir)
	for _, name := range []string{"link", "hard", "fifo", "good", "new"} {
		must(t, d.WriteFile(name, []byte("written")))
		if text, err := d.ReadFile(name, 100); err != nil || string(text) != "written" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != secret {
		t.Errorf("what the links lead to: %q, %v", text, err)
	}
	for _, name := range []string{"../outside/file", "..", ".", "", "a/b"} {
		if d.WriteFile(name, nil) == nil {
			t.Errorf("%q was written", name)
		}
	}
}

// Whoever swaps a directory for a link as fast as they can gets nowhere.
func TestSwappedDirectory(t *testing.T) {
	dir, outside := home(t)
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "sub", "file"), []byte("mine"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "trap")))
	d := open(t, dir)
	stop, ended := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			err := unix.Renameat2(d.Fd(), "sub", d.Fd(), "trap", unix.RENAME_EXCHANGE)
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	read, refused := 0, 0
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && (read < 2000 || refused < 2000); {
		switch text, err := d.ReadFile("sub/file", 100); {
		case err != nil:
			refused++
		case string(text) != "mine":
			t.Fatalf("read %q", text)
		default:
			read++
		}
	}
	close(stop)
	must(t, <-ended)
	if read == 0 || refused == 0 {
		t.Errorf("read %d times, refused %d times: nothing was tried", read, refused)
	}
}

// A directory that is renamed away, with a link left in its place, stays the one
// that was opened.
func TestRenamedDirectory(t *testing.T) {
	dir, outside := home(t)
	d := open(t, dir)
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Symlink(outside, dir))
	if text, err := d.ReadFile("good", 100); err != nil || string(text) != "good" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := d.ReadFile("file", 100); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a link was opened as the directory")
	}
}

// Strange files neither block nor are they touched.
func TestStrangeFiles(t *testing.T) {
	dir, _ := home(t)
	strange := map[string]func(path string) error{
		"fifo": func(path string) error { return unix.Mkfifo(path, 0o600) },
		"socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"leased":    func(path string) error { return lease(t, path) },
		"huge": func(path string) error {
			f, err := os.Create(path)
			return errors.Join(err, f.Truncate(1<<42), f.Close())
		},
	}
	if os.Geteuid() == 0 {
		strange["terminal"] = func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(5, 0))) }
		strange["watchdog"] = func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 130))) }
	}
	for name, make := range strange {
		if err := make(filepath.Join(dir, name)); err != nil {
			if errors.Is(err, unix.EPERM) {
				t.Logf("%s cannot be made here: %v", name, err)
				continue
			}
			t.Fatal(name, err)
		}
	}
	d := open(t, dir)
	for name := range strange {
		begin := time.Now()
		if text, err := d.ReadFile(name, 1<<16); err == nil {
			t.Errorf("%s: read %d bytes", name, len(text))
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

// lease takes a lease on a file, as its owner may (fcntl(2), F_SETLEASE): opens by
// others then wait for us, up to /proc/sys/fs/lease-break-time.
func lease(t *testing.T, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	t.Cleanup(func() { f.Close() })
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	return err
}

func TestReadFileReadsNoMore(t *testing.T) {
	dir, _ := home(t)
	d := open(t, dir)
	if _, err := d.ReadFile("good", 3); err == nil {
		t.Error("a file of 4 bytes was read as one of 3")
	}
	if err := os.WriteFile(filepath.Join(dir, "grows"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "grows"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for block := make([]byte, 1<<12); ; {
			select {
			case <-stop:
				return
			default:
				_, _ = f.Write(block)
			}
			if st, err := f.Stat(); err == nil && st.Size() > 1<<26 {
				_ = f.Truncate(0)
			}
		}
	}()
	for range 50 {
		if text, err := d.ReadFile("grows", 1<<14); err == nil && len(text) > 1<<14 {
			t.Fatalf("%d bytes", len(text))
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	dir, _ := home(t)
	for i := range 20 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d\n\x1b", i)), nil, 0o600))
	}
	d := open(t, dir)
	if names, err := d.Names(20); err == nil || len(names) > 21 {
		t.Errorf("%d names, %v", len(names), err)
	}
	for range 2 { // from the beginning, each time
		if names, err := d.Names(21); err != nil || len(names) != 21 {
			t.Errorf("%d names, %v", len(names), err)
		}
	}
}

func TestOnlyPrivateDirectories(t *testing.T) {
	dir, _ := home(t)
	for mode, fine := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o770: false, 0o707: false, 0o777 | os.ModeSticky: false} {
		must(t, os.Chmod(dir, mode))
		d, err := Open(dir)
		if (err == nil) != fine || err != nil && !errors.Is(err, ErrNotPrivate) {
			t.Errorf("%v: %v", mode, err)
		}
		if err == nil {
			d.Close()
		}
	}
	if os.Geteuid() != 0 {
		return // somebody else's directory is one that we cannot make
	}
	must(t, os.Chmod(dir, 0o700))
	must(t, os.Chown(dir, 5001, 5001))
	if _, err := Open(dir); !errors.Is(err, ErrNotPrivate) {
		t.Errorf("another's: %v", err)
	}
	must(t, os.Chown(dir, 0, 0))
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	must(t, os.Chown(filepath.Join(dir, "sub"), 5001, 5001))
	if _, err := open(t, dir).Sub("sub"); !errors.Is(err, ErrNotPrivate) || !strings.Contains(err.Error(), "home/sub") {
		t.Errorf("another's, below: %v", err)
	}
}
