// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/store"
)

// noteIn puts a note where the monitors of a user leave theirs.
func noteIn(t *testing.T, uid int, n store.Note) {
	t.Helper()
	dir := place(t, uid)
	if err := errors.Join(owned(0o700)(dir, uid), n.Write(filepath.Join(dir, "x.near")), giveAway(dir, uid)); err != nil {
		t.Fatal(err)
	}
}

func giveAway(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
}

// publicDir is one that every user can get to, unlike t.TempDir.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "esky-drain")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a note is, and what it says, is the user's: it leads to nothing that the
// user could not do, and nothing of what it leads to is shown.
func TestHostileNotes(t *testing.T) {
	hook := hook(t)
	victim := publicDir(t)
	secret := filepath.Join(victim, "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.Mkdir(filepath.Join(victim, "J"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(note string) error
		says string
	}{
		"a link":         {func(p string) error { return os.Symlink(secret, p) }, "x.near"},
		"a FIFO":         {func(p string) error { return syscall.Mkfifo(p, 0o666) }, "not a regular file"},
		"huge":           {func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) }, "more than"},
		"no JSON":        {func(p string) error { return os.WriteFile(p, []byte("secret? no"), 0o600) }, "note of a near place"},
		"root's store":   {func(p string) error { return store.Note{Store: victim, Job: "J", Near: "/tmp"}.Write(p) }, "permission denied"},
		"root's place":   {func(p string) error { return store.Note{Store: "/tmp", Job: "J", Near: victim}.Write(p) }, "permission denied"},
		"a job in a job": {func(p string) error { return store.Note{Store: "/tmp", Job: "../etc", Near: "/tmp"}.Write(p) }, "job name"},
	} {
		t.Run(name, func(t *testing.T) {
			uid := nobodys()
			dir := place(t, uid)
			note := filepath.Join(dir, "x.near")
			if err := errors.Join(owned(0o700)(dir, uid), c.make(note), os.Lchown(note, uid, uid)); err != nil {
				t.Fatal(err)
			}
			out, err := hookFor(t, hook, "drain", uid)
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v, %q", err, out)
			}
			left, err := os.ReadDir(victim)
			if err != nil || len(left) != 2 {
				t.Errorf("the victim's directory has %v, %v", left, err)
			}
		})
	}
}

// twoPlaces is a store and a near place of a user, with an image that is none.
func twoPlaces(t *testing.T, uid int, fill func(image string) error) (root string) {
	t.Helper()
	root = publicDir(t)
	far, err := store.Open(filepath.Join(root, "store"), "J")
	if err != nil {
		t.Fatal(err)
	}
	near, err := far.Near(filepath.Join(root, "near"))
	if err != nil {
		t.Fatal(err)
	}
	h := store.Holder{Host: "here", Started: time.Now()}
	if h.Token, err = far.Take(h); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(near.Dir(), "gen-000001")
	if err := errors.Join(near.Follow(h), os.Mkdir(image, 0o700), fill(image), giveAway(root, uid)); err != nil {
		t.Fatal(err)
	}
	noteIn(t, uid, store.Note{Store: filepath.Join(root, "store"), Job: "J", Near: filepath.Join(root, "near"), Keep: 2})
	return root
}

// An image of strange files is not brought, and nobody waits for a FIFO.
func TestHostileImages(t *testing.T) {
	hook := hook(t)
	for name, fill := range map[string]func(string) error{
		"a FIFO": func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "manifest"), 0o600) },
		"a link": func(dir string) error { return os.Symlink("/etc/shadow", filepath.Join(dir, "manifest")) },
		"a device": func(dir string) error {
			return syscall.Mknod(filepath.Join(dir, "pages"), syscall.S_IFCHR|0o600, 1<<8|5)
		},
		"rubbish": func(dir string) error { return os.WriteFile(filepath.Join(dir, "manifest"), []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			uid := nobodys()
			root := twoPlaces(t, uid, fill)
			begin := time.Now()
			out, _ := hookFor(t, hook, "drain", uid)
			if took := time.Since(begin); took > longest {
				t.Errorf("took %v", took)
			}
			if strings.Contains(out, "brought") {
				t.Errorf("it says %q", out)
			}
			if got, _ := filepath.Glob(filepath.Join(root, "store", "J", "*gen-*")); len(got) > 0 {
				t.Errorf("the store has %q", got)
			}
		})
	}
}

// A job that renames its store while it is being filled, and puts a link to
// somebody else's directory in its place, gets nothing written there.
func TestStoreThatMoves(t *testing.T) {
	hook := hook(t)
	victim := publicDir(t)
	uid := nobodys()
	root := twoPlaces(t, uid, func(image string) error {
		var err error
		for i := range 40 {
			err = errors.Join(err, os.WriteFile(filepath.Join(image, fmt.Sprint("chunk-", i)), make([]byte, 1<<20), 0o600))
		}
		return err
	})
	job, away := filepath.Join(root, "store", "J"), filepath.Join(root, "store", "K")
	stop, moved := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				moved <- n
				return
			default:
			}
			// Each of these fails now and then, for the other side makes names too.
			_ = os.Rename(job, away)
			_ = os.Symlink(victim, job)
			_ = os.Remove(job)
			_ = os.Rename(away, job)
			time.Sleep(time.Millisecond)
		}
	}()
	out, _ := hookFor(t, hook, "drain", uid)
	close(stop)
	if n := <-moved; n < 2 {
		t.Errorf("moved %d times only", n)
	}
	if strings.Contains(out, "brought") {
		t.Errorf("it says %q", out)
	}
	if left, err := os.ReadDir(victim); err != nil || len(left) > 0 {
		t.Errorf("written to somebody else's directory: %v, %v", left, err)
	}
}

// The store is on a file system that takes requests and answers none. The node waits
// for it no longer than the site has said, and the next job's epilog not at all: it
// starts nothing that could hang as well.
func TestStoreThatHangs(t *testing.T) {
	hook := hook(t)
	uid := nobodys()
	t.Cleanup(func() { _ = os.Remove(fmt.Sprint("/run/esky-hook/", uid)) })
	root := twoPlaces(t, uid, func(image string) error { return os.WriteFile(filepath.Join(image, "pages"), []byte("x"), 0o600) })
	asked := hangingMount(t, filepath.Join(root, "store"), uid)
	out, err := hookFor(t, hook, "drain 3", uid)
	if err == nil || !strings.Contains(out, "gave up after") || !strings.Contains(out, "cannot be killed") || asked() == 0 {
		t.Fatalf("%v, %q", err, out)
	}
	begin, before := time.Now(), asked()
	out, err = hookFor(t, hook, "drain 20", uid)
	if took := time.Since(begin); err == nil || !strings.Contains(out, "an earlier one for user") || took > 10*time.Second {
		t.Errorf("behind one that hangs: %v, %q, after %v", err, out, took)
	}
	if asked() != before {
		t.Error("the file system was asked once more")
	}
	// Other users are not affected.
	if out, err := hookFor(t, hook, "drain 3", nobodys()); err != nil || out != "" {
		t.Errorf("another user: %v, %q", err, out)
	}
}
