// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// smallDisk mounts a file system of so many MiB as the job's store.
func smallDisk(t *testing.T, g *gate, mib int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	must(t, os.Mkdir(g.Store, 0o700))
	options := fmt.Sprintf("size=%dm,mode=700,uid=1000,gid=1000", mib)
	must(t, syscall.Mount("esky-test", g.Store, "tmpfs", 0, options))
	t.Cleanup(func() { _ = syscall.Unmount(g.Store, syscall.MNT_DETACH) })
}

// TestFullDisk lets the second checkpoint hit the end of the disk.
func TestFullDisk(t *testing.T) {
	g := newGate(t, 24)
	smallDisk(t, g, 40)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	good := g.Generations()
	for _, flags := range [][]string{nil, {"--stop"}} {
		g.advance(r)
		o := g.TryCheckpoint(flags...)
		if o.Status != harness.ExitStore {
			t.Fatalf("checkpoint %v on a full disk: %s", flags, o)
		}
		says(t, o.Stderr, "store", "space")
		g.advance(r) // the job is unharmed
	}
	if now := g.Generations(); len(now) != 1 || now[0] != good[0] {
		t.Fatalf("images after a full disk: %v, want %v", now, good)
	}
	pending, err := filepath.Glob(filepath.Join(g.Store, g.Name, ".pending*"))
	must(t, err)
	if len(pending) > 0 {
		t.Errorf("left behind: %v", pending)
	}
	r.Crash()
	g.shut()
	g.finish(g.Start(), 1)
}

// TestStoreBecomesUnwritable takes away the permission to write while the job
// runs.
func TestStoreBecomesUnwritable(t *testing.T) {
	g := newGate(t, 1)
	r := g.start()
	g.advance(r)
	g.Checkpoint()
	dir := filepath.Join(g.Store, g.Name)
	must(t, os.Chmod(dir, 0o500))
	defer func() { _ = os.Chmod(dir, 0o700) }() // for the removal of the test's directory
	o := g.TryCheckpoint()
	if o.Status != harness.ExitStore {
		t.Errorf("checkpoint into an unwritable store: %s", o)
	}
	says(t, o.Stderr, "permission denied", dir)
	g.advance(r)
	must(t, os.Chmod(dir, 0o700))
	g.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	g.finish(g.Start(), 2)
}

// TestUnwritableStore starts a job whose store cannot be made at all.
func TestUnwritableStore(t *testing.T) {
	g := newGate(t, 1)
	g.Write("finish", "")
	g.Store = "/proc/esky"
	r := g.Start()
	r.WaitFor(harness.ExitStore)
	says(t, r.Stderr(), "/proc/esky")
	if got := g.Read("stdout"); got != "" {
		t.Errorf("the job ran although it could never be saved: %q", got)
	}
}

// TestForeignStore gives the store to others: what they could have written is
// not resumed.
func TestForeignStore(t *testing.T) {
	g := twoImages(t)
	must(t, os.Chmod(filepath.Join(g.Store, g.Name), 0o777))
	g.Write("finish", "")
	r := g.Start()
	if status := r.Wait(); status == finished || status == 0 {
		t.Errorf("status %d: a job was resumed from a directory that anybody can write", status)
	}
	says(t, r.Stderr(), "others", filepath.Join(g.Store, g.Name))
}
