// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk runs itself again in a mount namespace of its own, where an
// ordinary user may mount a tmpfs of a few megabytes.
func TestFullDisk(t *testing.T) {
	const key = "ESKY_TEST_FULL_DISK"
	if dir := os.Getenv(key); dir != "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=700"); err != nil {
			t.Fatal(err)
		}
		fullDisk(t, filepath.Join(dir, "store"))
		readOnly(t, dir, filepath.Join(dir, "store"))
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), key+"="+t.TempDir())
	// As root there, because exec(2) takes the capabilities of everybody else.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		t.Skipf("no user namespace here, so no file system to fill: %v", err) // TestRefusedAnywhere pretends one
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// fullDisk writes an image that does not fit.
func fullDisk(t *testing.T, dir string) {
	s := mustOpen(t, dir)
	tok := mustTake(t, s)
	mustPublish(t, s, tok, 1)
	p := mustBegin(t, s, tok)
	err := writeImage(p.Dir(), p.Generation(), 10)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("10 MiB into 6: %v", err)
	}
	if err := WriteError(p.Dir(), err); !errors.Is(err, ErrNotWritable) {
		t.Errorf("%v", err)
	}
	if err := p.Publish(); err == nil {
		t.Error("half an image was published")
	}
	rest := filepath.Join(filepath.Dir(dir), "rest")
	if err := os.WriteFile(rest, make([]byte, 6<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill up: %v", err)
	}
	if err := s.SetDone(DoneRecord{Status: 1}); !errors.Is(err, ErrNotWritable) || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("done record on a full disk: %v", err)
	}
	if d, err := s.Done(); d != nil || err != nil {
		t.Errorf("done record that was not written: %v, %v", d, err)
	}
	if err := errors.Join(p.Abort(), os.Remove(rest)); err != nil {
		t.Errorf("abort: %v", err)
	}
	mustPublish(t, s, tok, 1)
	if n := goodNumbers(t, s); !slices.Equal(n, []uint32{2, 1}) {
		t.Errorf("generations %v", n)
	}
}

// readOnly makes the file system refuse everything, as one with errors does.
func readOnly(t *testing.T, mount, dir string) {
	s := mustOpen(t, dir)
	tok, err := s.Current()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, begin := s.Begin(tok)
	_, take := s.Take(Holder{})
	_, lock := s.TryLock()
	_, open := Open(dir, "another")
	for what, err := range map[string]error{"begin": begin, "take": take, "lock": lock, "open": open,
		"prune": s.Prune(1), "remove": s.RemoveImages()} {
		if !errors.Is(err, ErrNotWritable) || !errors.Is(err, unix.EROFS) {
			t.Errorf("%s, read-only: %v", what, err)
		}
	}
	if n := goodNumbers(t, s); !slices.Equal(n, []uint32{2, 1}) {
		t.Errorf("generations %v", n)
	}
}
