// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEveryByteCounts flips each byte of each file, padding and the manifest
// itself included. No one may get through, nor change what is read.
func TestEveryByteCounts(t *testing.T) {
	dir := tempDir(t)
	small(t).write(t, dir)
	buf := NewBuffer()
	defer FreeBuffer(buf)
	flipped := 0
	for _, name := range regular(t, dir) {
		flipped += flipAll(t, dir, name, buf)
	}
	if flipped < 3*align {
		t.Errorf("only %d bytes were flipped", flipped)
	}
	small(t).check(t, dir) // all was put back
}

func flipAll(t *testing.T, dir, name string, buf []byte) int {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	good, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		poke(t, f, i, good[i]^(1<<(i%8)))
		_, _, err := load(dir, buf)
		if _, ok := errors.AsType[*DamagedError](err); !ok {
			t.Fatalf("byte %d of %s flipped: %v", i, name, err)
		}
		if i%64 == 0 {
			checkVerify(t, dir, fmt.Sprintf("byte %d of %s flipped", i, name))
		}
		poke(t, f, i, good[i])
	}
	return len(good)
}

func poke(t *testing.T, f *os.File, off int, b byte) {
	t.Helper()
	if _, err := f.WriteAt([]byte{b}, int64(off)); err != nil {
		t.Fatal(err)
	}
}

// checkVerify wants Open or Verify to find damage.
func checkVerify(t *testing.T, dir, what string) {
	t.Helper()
	r, err := Open(dir)
	if err == nil {
		err = r.Verify(context.Background(), nil)
		r.Close()
	}
	if d, ok := errors.AsType[*DamagedError](err); !ok || d.Dir != dir || d.What == "" {
		t.Errorf("%s: %v", what, err)
	}
}

// TestFilesComeAndGo damages the directory itself.
func TestFilesComeAndGo(t *testing.T) {
	pristine := tempDir(t)
	small(t).write(t, pristine)
	damages := map[string]func(string) error{
		"extra file":          func(d string) error { return os.WriteFile(d+"/x", nil, 0o600) },
		"extra hidden file":   func(d string) error { return os.WriteFile(d+"/.x", nil, 0o600) },
		"extra saved file":    func(d string) error { return os.WriteFile(d+"/files/3", nil, 0o600) },
		"extra directory":     func(d string) error { return os.Mkdir(d+"/x", 0o700) },
		"extra subdirectory":  func(d string) error { return os.Mkdir(d+"/files/x", 0o700) },
		"no saved files":      func(d string) error { return os.RemoveAll(d + "/files") },
		"files is a file":     func(d string) error { os.RemoveAll(d + "/files"); return os.WriteFile(d+"/files", nil, 0o600) },
		"files is a link":     func(d string) error { return relink(d, "files") },
		"saved files swapped": func(d string) error { return swap(d+"/files/0", d+"/files/2") },
		"meta and index":      func(d string) error { return swap(d+"/meta.pb", d+"/index.pb") },
		"nothing left":        func(d string) error { os.RemoveAll(d); return os.Mkdir(d, 0o700) },
		"no directory":        os.RemoveAll,
		"a file":              func(d string) error { os.RemoveAll(d); return os.WriteFile(d, nil, 0o600) },
		"empty files": func(d string) error {
			return errors.Join(os.Remove(d+"/files/0"), os.Remove(d+"/files/1"), os.Remove(d+"/files/2"))
		},
	}
	for _, name := range regular(t, pristine) {
		damages[name+" missing"] = func(d string) error { return os.Remove(d + "/" + name) }
		damages[name+" is a link"] = func(d string) error { return relink(d, name) }
		damages[name+" is a FIFO"] = func(d string) error { os.Remove(d + "/" + name); return unix.Mkfifo(d+"/"+name, 0o600) }
		damages[name+" longer"] = func(d string) error { return resize(d+"/"+name, 1) }
		damages[name+" longer by a block"] = func(d string) error { return resize(d+"/"+name, align) }
		if fi, err := os.Stat(filepath.Join(pristine, name)); err == nil && fi.Size() > 0 {
			damages[name+" shorter"] = func(d string) error { return resize(d+"/"+name, -1) }
			damages[name+" empty"] = func(d string) error { return os.Truncate(d+"/"+name, 0) }
		}
	}
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "gen")
			copyImage(t, pristine, dir)
			small(t).check(t, dir)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			checkVerify(t, dir, what)
		})
	}
}

func copyImage(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	// Git and umask know nothing of what an image's modes must be.
	err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]os.FileMode{true: 0o700, false: 0o600}[d.IsDir()])
	})
	if err != nil {
		t.Fatal(err)
	}
}

// relink moves something out of the image and leaves a link to it.
func relink(dir, name string) error {
	aside := dir + ".aside"
	if err := os.Rename(dir+"/"+name, aside); err != nil {
		return err
	}
	return os.Symlink(aside, dir+"/"+name)
}

func swap(a, b string) error {
	return errors.Join(os.Rename(a, a+"~"), os.Rename(b, a), os.Rename(a+"~", b))
}

func resize(path string, by int64) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, fi.Size()+by)
}

// TestEmptyFilesDirectory adds what has no line in any manifest.
func TestEmptyFilesDirectory(t *testing.T) {
	dir := tempDir(t)
	f := small(t)
	f.files = nil
	f.write(t, dir)
	f.check(t, dir)
	if err := os.Mkdir(filepath.Join(dir, filesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	checkVerify(t, dir, "an empty directory of saved files")
}

// TestCutWhileOpen cuts the page data after Open has seen its size.
func TestCutWhileOpen(t *testing.T) {
	dir := tempDir(t)
	small(t).write(t, dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(filepath.Join(dir, pagesName), 2*align); err != nil {
		t.Fatal(err)
	}
	_, err = r.ReadChunk(1, nil)
	if d, ok := errors.AsType[*DamagedError](err); !ok || !strings.Contains(d.What, "chunk 1") {
		t.Errorf("read of a chunk that is gone: %v", err)
	}
}

func TestOthersCouldHaveWrittenIt(t *testing.T) {
	attacks := map[string]func(string) error{
		"group writes the directory": func(d string) error { return os.Chmod(d, 0o770) },
		"all write the directory":    func(d string) error { return os.Chmod(d, 0o702|os.ModeSticky) },
		"group writes the files":     func(d string) error { return os.Chmod(d+"/files", 0o720) },
		"all write the manifest":     func(d string) error { return os.Chmod(d+"/manifest", 0o602) },
		"group writes the metadata":  func(d string) error { return os.Chmod(d+"/meta.pb", 0o620) },
		"group writes the index":     func(d string) error { return os.Chmod(d+"/index.pb", 0o660) },
		"all write the pages":        func(d string) error { return os.Chmod(d+"/pages.img", 0o606) },
		"all write a saved file":     func(d string) error { return os.Chmod(d+"/files/2", 0o666) },
	}
	if os.Geteuid() == 0 { // TestUnsafeOwner has the rule for everybody
		for _, name := range []string{"", "/manifest", "/meta.pb", "/index.pb", "/pages.img", "/files", "/files/1"} {
			attacks["owner of "+name] = func(d string) error { return os.Chown(d+name, 4711, -1) }
		}
	}
	for what, attack := range attacks {
		t.Run(what, func(t *testing.T) {
			dir := tempDir(t)
			small(t).write(t, dir)
			if err := attack(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if u, ok := errors.AsType[*UnsafeError](err); !ok || u.Dir != dir || u.Path == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestUnsafeOwner(t *testing.T) {
	for _, tc := range []struct {
		uid, mode, euid uint32
		safe            bool
	}{
		{1000, 0o600, 1000, true}, {0, 0o600, 1000, true}, {0, 0o600, 0, true}, {1000, 0o755, 1000, true},
		{1001, 0o600, 1000, false}, {1000, 0o600, 0, false}, {1000, 0o620, 1000, false},
		{1000, 0o602, 1000, false}, {0, 0o1777, 1000, false}, {65534, 0o600, 1000, false},
	} {
		if why := unsafeOwner(tc.uid, tc.mode, tc.euid); (why == "") != tc.safe {
			t.Errorf("uid %d mode %#o seen by %d: %q", tc.uid, tc.mode, tc.euid, why)
		}
	}
}

func TestModesOfWhatIsWritten(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := tempDir(t)
	small(t).write(t, dir)
	for _, name := range append(regular(t, dir), filesDir) {
		fi, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %#o", name, fi.Mode().Perm())
		}
	}
}

func TestErrorsSayWhoseFaultItIs(t *testing.T) {
	for _, tc := range []struct {
		errno  unix.Errno
		damage bool
		unsafe bool
	}{
		{unix.ENOENT, true, false}, {unix.EIO, true, false}, {unix.ELOOP, true, false},
		{unix.EACCES, false, true}, {unix.EPERM, false, true},
		{unix.EMFILE, false, false}, {unix.ENOMEM, false, false}, {unix.ENFILE, false, false},
	} {
		err := ioError("d", "what", &os.PathError{Op: "open", Path: "p", Err: tc.errno})
		_, damaged := errors.AsType[*DamagedError](err)
		_, unsafe := errors.AsType[*UnsafeError](err)
		if damaged != tc.damage || unsafe != tc.unsafe || (!unsafe && !errors.Is(err, tc.errno)) {
			t.Errorf("%v: %v", tc.errno, err)
		}
	}
}

func TestOtherVersion(t *testing.T) {
	dir := tempDir(t)
	small(t).write(t, dir)
	path := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = reseal(bytes.Replace(b, []byte("esky-image 2\n"), []byte("esky-image 5\nsomething new\n"), 1))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	if v, ok := errors.AsType[*VersionError](err); !ok || v.Have != CheckedVersion+1 || v.Want != CheckedVersion {
		t.Errorf("%v", err)
	}
}
