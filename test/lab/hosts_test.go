// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A host that cannot resume the image is excluded, and the job goes on on one that
// can: here only one host has the program left.
func TestWrongHostIsExcluded(t *testing.T) {
	needQuietEnd(t)
	const rounds = 25
	for _, host := range []string{"n1", "n2"} {
		rootOn(t, host, "install", "-D", "-m", "755", "/home/esk/count", "/var/local/esky/count")
	}
	j := workplace(t, "wrong-host").submit(fmt.Sprintf("exec esky-wrap run -- /var/local/esky/count %d 400 0 result", rounds), "-p", "low", "-t", "10")
	j.awaitRound(5, "result")
	right := j.hosts()[0]
	wrong := map[string]string{"n1": "n2", "n2": "n1"}[right]
	rootOn(t, wrong, "rm", "/var/local/esky/count")
	drainNode(t, right)
	on(t, "scontrol", "requeue", j.id)
	j.await("its second run", time.Minute, func() bool { return j.show()["ExcNodeList"] == wrong })
	rootOn(t, "ctl", "scontrol", "update", "NodeName="+right, "State=RESUME")
	j.await("its third run", 2*time.Minute, func() bool { return len(j.hosts()) == 3 })
	if h := j.hosts(); h[1] != wrong || h[2] != right {
		t.Errorf("ran on %v", h)
	}
	if got := j.show()["ExcNodeList"]; got != wrong {
		t.Errorf("excluded: %s", got)
	}
	j.awaitState(time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "result")
	j.expectStates("REQUEUED", "REQUEUED", "COMPLETED")
}

// Where the site publishes the kinds of its hosts, a job that was saved waits for
// one of its own kind, even if another is free.
func TestJobWaitsForItsKindOfHost(t *testing.T) {
	needQuietEnd(t)
	const rounds = 20
	for _, host := range []string{"n1", "n2"} {
		rootOn(t, host, "/opt/esky/slurm/publish-label")
	}
	t.Cleanup(func() {
		for _, host := range []string{"n1", "n2"} {
			rootOn(t, host, "scontrol", "update", "NodeName="+host, "AvailableFeatures=", "ActiveFeatures=")
		}
	})
	label := features(t, "n1")
	if !strings.HasPrefix(label, "esky-") || features(t, "n2") != label {
		t.Fatalf("published: %q and %q", label, features(t, "n2"))
	}
	j := workplace(t, "kind").submit(fmt.Sprintf("exec esky-wrap run -- ../count %d 400 0 result", rounds), "-p", "low", "-t", "10")
	j.awaitRound(5, "result")
	first := j.hosts()[0]
	other := map[string]string{"n1": "n2", "n2": "n1"}[first]
	rootOn(t, other, "scontrol", "update", "NodeName="+other, "AvailableFeatures=esky-another,fast", "ActiveFeatures=esky-another,fast")
	drainNode(t, first)
	on(t, "scontrol", "requeue", j.id)
	time.Sleep(10 * time.Second) // by now it would run, were the other host good enough
	if s := j.show()["JobState"]; s != "PENDING" {
		t.Errorf("the job is %s", s)
	}
	rootOn(t, "ctl", "scontrol", "update", "NodeName="+first, "State=RESUME")
	j.await("its second run", 2*time.Minute, func() bool { return len(j.hosts()) == 2 })
	if h := j.hosts(); h[1] != first {
		t.Errorf("ran on %v", h)
	}
	if got := j.show()["Features"]; got != label {
		t.Errorf("it demanded %s, not %s", got, label)
	}
	j.awaitState(time.Minute, "COMPLETED", "0:0")
	j.expect(rounds, "result")
	j.expectStates("REQUEUED", "COMPLETED")
	// What the site has set itself stays, what another kernel was called goes.
	rootOn(t, other, "/opt/esky/slurm/publish-label")
	if got := features(t, other); got != "fast,"+label {
		t.Errorf("published again: %s", got)
	}
}

// drainNode keeps new jobs from a host, for this test at most.
func drainNode(t *testing.T, host string) {
	t.Helper()
	rootOn(t, "ctl", "scontrol", "update", "NodeName="+host, "State=DRAIN", "Reason=test")
	t.Cleanup(func() {
		if state := fields(on(t, "scontrol", "-o", "show", "node", host))["State"]; strings.Contains(state, "DRAIN") {
			rootOn(t, "ctl", "scontrol", "update", "NodeName="+host, "State=RESUME")
		}
	})
}

// features are those of a node that jobs can demand.
func features(t *testing.T, node string) string {
	t.Helper()
	return fields(on(t, "scontrol", "-o", "show", "node", node))["ActiveFeatures"]
}

// rootOn runs a command as root on a host.
func rootOn(t *testing.T, host string, args ...string) {
	t.Helper()
	cmd := exec.Command("./slurm", append([]string{"exec", host, "timeout", "30"}, args...)...)
	cmd.Env = append(cmd.Environ(), "ESKY_LAB_USER=root")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %q: %v: %s", host, args, err, out)
	}
}
