// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// bmig and brestart: echkpnt.esky with -k, then erestart.esky on another host or
// under another job id, and LSF runs what that has written.
func TestLSF(t *testing.T) {
	t.Parallel()
	s := newStand(t, 1000, "LSB_JOBID=40", "LSB_JOBINDEX=2", "LSB_QUEUE=normal")
	servers := t.TempDir() // LSF_SERVERDIR
	for _, name := range []string{"echkpnt.esky", "erestart.esky"} {
		if err := os.Symlink(s.hook, filepath.Join(servers, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(servers), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.dir, "it's 40") // a directory's name may have anything
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	env := []string{"LSB_JOBID=40", "LSB_JOBINDEX=2", "LSB_CHKPNT_DIR=" + dir}
	job := s.start(5, wrapped()...)
	if status, out := s.call(1000, env, servers+"/echkpnt.esky", "-s", "-d", dir, "99"); status == 0 || !s.runs() {
		t.Errorf("-s, which esky cannot: status %d: %s", status, out)
	}
	if status, out := s.call(1000, env, servers+"/echkpnt.esky", "-c", "-f", "-d", dir, "-x", "99"); status != 0 || !s.runs() {
		t.Fatalf("echkpnt: status %d: %s", status, out)
	}
	if status, out := s.call(1000, env, servers+"/echkpnt.esky", "-k", "-d", dir, "99"); status != 0 {
		t.Fatalf("echkpnt -k: status %d: %s", status, out)
	}
	if got := s.status(job); got != harness.ExitAgain {
		t.Errorf("the job ended with %d", got)
	}
	// LSF has moved the directory to the new id's.
	if err := os.Rename(dir, dir+"1"); err != nil {
		t.Fatal(err)
	}
	dir += "1"
	env = []string{"LSB_JOBID=41", "LSB_RESTART=Y", "LSB_CHKPNT_DIR=" + dir, "PATH=/usr/bin:/bin"}
	if status, out := s.call(1000, env, servers+"/erestart.esky", "-c", dir); status != 0 {
		t.Fatalf("erestart: status %d: %s", status, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, ".restart_cmd"))
	line, found := strings.CutPrefix(string(text), "LSB_RESTART_CMD=")
	if err != nil || !found || strings.Count(line, "\n") != 1 {
		t.Fatalf("%q, %v", text, err)
	}
	again := s.as(1000, env, "/bin/sh", "-c", line)
	again.Stdout, again.Stderr = s.file("out"), s.file("err")
	if got := s.status(s.begin(again)); got != 0 {
		t.Errorf("the job ended with %d", got)
	}
	s.complete()
}

// Where there is no checkpoint erestart must fail, or LSF starts the job anew.
func TestLSFWithoutACheckpoint(t *testing.T) {
	t.Parallel()
	s := newStand(t, 1000)
	env := []string{"LSB_JOBID=40", "LSB_CHKPNT_DIR=" + s.dir}
	for _, line := range [][]string{{s.hook, "lsf-restart", s.dir}, {s.hook, "lsf-checkpoint", "-d", s.dir, "99"}, {s.hook, "lsf-checkpoint", "-z", "99"}} {
		if status, out := s.call(1000, env, line...); status == 0 || out == "" {
			t.Errorf("%v: status %d: %s", line[1:], status, out)
		}
	}
	if names, err := filepath.Glob(filepath.Join(s.dir, ".*")); err != nil || len(names) != 0 {
		t.Errorf("there is %v, %v", names, err)
	}
}
