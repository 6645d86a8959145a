// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blockedScript runs a job whose images go to /tmp/fast first. Its store does not
// take any while the job is being ended; afterwards it does, if the file reopen is
// there. The job's comment says where the next prolog finds it.
const blockedScript = `ls -d /tmp/fast/*/gen-* >>staged 2>/dev/null
trap 'until grep -q "on this host only" err; do sleep 0.2; done; [ ! -e reopen ] || chmod 700 .esky/*
	until scontrol show job $SLURM_JOB_ID | grep -q "Comment=esky: checkpoint"; do sleep 0.2; done; exit' TERM
srun -n1 esky-wrap run -- ../count %d 400 0 result &
wait`

// tiers gives the site a fast place on each host, and a job that uses it.
func tiers(t *testing.T, name string, rounds int) *job {
	t.Helper()
	conf := filepath.Join(labDir(), "site/esky/slurm/esky.conf")
	shipped, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, append(shipped, "local=/tmp/fast\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(conf, shipped, 0o644); err != nil {
			t.Error(err)
		}
	})
	return workplace(t, name).submit(fmt.Sprintf(blockedScript, rounds), "-p", "low", "-n1", "-t", "10")
}

// chmodStore opens and closes the job's store for its user.
func (j *job) chmodStore(mode os.FileMode) {
	j.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(j.dir, ".esky", "slurm-*"))
	if err != nil || len(dirs) != 1 {
		j.t.Fatalf("stores %q, %v", dirs, err)
	}
	if err := os.Chmod(dirs[0], mode); err != nil {
		j.t.Fatal(err)
	}
}

// requeueFrom requeues the job, to be run on any other host.
func (j *job) requeueFrom(host string) {
	j.t.Helper()
	on(j.t, "scontrol", "requeue", j.id)
	on(j.t, "scontrol", "update", "JobId="+j.id, "ExcNodeList="+host)
}

// An image that its monitor could not bring to the store is brought by the epilog
// of that host, and staged by the prolog of the next.
func TestEpilogBringsTheImage(t *testing.T) {
	needQuietEnd(t)
	const rounds = 25
	j := tiers(t, "tiers", rounds)
	j.awaitRound(8, "result")
	j.chmodStore(0o500)
	if err := os.WriteFile(filepath.Join(j.dir, "reopen"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	first := j.hosts()[0]
	j.requeueFrom(first)
	j.await("its second run", time.Minute, func() bool { return len(j.hosts()) == 2 })
	if j.hosts()[1] == first {
		t.Errorf("ran on %v", j.hosts())
	}
	if n := len(j.images()); n != 1 {
		t.Errorf("%d images in the store", n)
	}
	if got := strings.Count(j.read("staged"), "gen-000001\n"); got != 1 {
		t.Errorf("the script found on its hosts: %q", j.read("staged"))
	}
	j.awaitState(2*time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "result")
	j.expectStates("REQUEUED", "COMPLETED")
	if !strings.Contains(j.read("err"), "resumed slurm-") {
		t.Errorf("it was not resumed: %s", j.read("err"))
	}
	for _, host := range []string{"n1", "n2"} {
		left := slurm(t, "exec", host, "sh", "-c", "ls -d /tmp/fast/* /tmp/esky-5001/*.near 2>/dev/null; true")
		if left != "" {
			t.Errorf("left on %s: %s", host, left)
		}
	}
}

// An image that was never brought counts on its host, as the newest; but only as long
// as nobody has run the job elsewhere.
func TestImageThatWasNeverBrought(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	const rounds = 50
	other := map[string]string{"n1": "n2", "n2": "n1"}
	for name, elsewhere := range map[string]bool{"believed": false, "not-believed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := workplace(t, "undrained-"+name)
			j.submit(fmt.Sprintf("export ESKY_LOCAL=/tmp/"+j.name+"\n"+blockedScript, rounds), "-p", "shared", "-n1", "-t", "10")
			j.awaitRound(15, "result")
			j.chmodStore(0o500)
			first := j.hosts()[0]
			next := first
			if elsewhere {
				next = other[first]
			}
			on(t, "scontrol", "requeuehold", j.id) // the image of round 15 and more stays there
			on(t, "scontrol", "update", "JobId="+j.id, "ExcNodeList="+other[next])
			j.await("the end of its first run", time.Minute, func() bool { return len(j.runs()) == 1 && strings.Contains(j.read("err"), "on this host only") })
			// Without its note no later epilog brings it, that of another test's job for instance.
			rootOn(t, first, "sh", "-c", "rm $(grep -l "+j.name+" /tmp/esky-5001/*.near)")
			j.chmodStore(0o700)
			list := slurm(t, "exec", first, "esky-wrap", "list", "--store", j.name+"/.esky")
			if !strings.Contains(list, "on this host only") {
				t.Errorf("list on %s: %s", first, list)
			}
			list = slurm(t, "exec", "ctl", "esky-wrap", "list", "--store", j.name+"/.esky")
			if !strings.Contains(list, "perhaps in /tmp/"+j.name) {
				t.Errorf("list elsewhere: %s", list)
			}
			if err := os.WriteFile(filepath.Join(j.dir, "reopen"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			on(t, "scontrol", "release", j.id)
			j.await("its second run", time.Minute, func() bool { return len(j.hosts()) == 2 })
			if !elsewhere {
				j.awaitState(2*time.Minute, "COMPLETED", "0:0")
				j.expect(rounds, "result")
				j.expectStates("REQUEUED", "COMPLETED")
				if !strings.Contains(j.read("err"), "resumed slurm-") {
					t.Errorf("it was not resumed: %s", j.read("err"))
				}
				return
			}
			j.await("a new beginning: the store has nothing", time.Minute, func() bool {
				return strings.Count(j.read("err"), "started slurm-") == 2
			})
			if strings.Contains(j.read("err"), "resumed") {
				t.Errorf("resumed from what? %s", j.read("err"))
			}
			j.requeueFrom(next)
			j.awaitState(3*time.Minute, "COMPLETED", "0:0")
			j.expect(rounds, "result")
			j.expectStates("REQUEUED", "REQUEUED", "COMPLETED")
			if h := j.hosts(); len(h) != 3 || h[2] != first {
				t.Errorf("ran on %v", h)
			}
		})
	}
}
