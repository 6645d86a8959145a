// SPDX-License-Identifier: Apache-2.0

// Package oar runs esky under a real OAR server: see the script "lab". It needs
// root, OAR's packages and two minutes.
package oar

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// patience is how long anything may take: OAR looks for what to do at its own pace.
const patience = 3 * time.Minute

// rounds is how far a job counts, one a second: long enough that OAR lets it run
// for a minute, saves it and has some left for the next.
const rounds = 120

func TestOAR(t *testing.T) {
	if os.Getenv("ESKY_LAB") == "" || !harness.All() {
		t.Skip("starts an OAR server on this machine, for minutes: only with ESKY_LAB=1 ESKY_TEST=all")
	}
	if os.Geteuid() != 0 {
		t.Skip("the server needs root, for users and namespaces of its own")
	}
	harness.Programs(t, []string{"oar-server", "oarsub", "oarnodesetting"},
		[]string{"oar-server", "oar-server-pgsql", "oar-user", "oar-user-pgsql", "oar-node"})
	t.Cleanup(func() { _ = exec.Command("./lab", "down").Run() })
	if out, err := exec.Command("./lab", "up").CombinedOutput(); err != nil {
		t.Fatalf("up: %v: %s", err, out)
	}
	t.Run("jobs", func(t *testing.T) {
		t.Run("walltime", testWalltime)
		t.Run("cancelled", testCancelled)
		t.Run("not idempotent", testNotIdempotent)
	})
}

// oar runs a command of the user's in the lab.
func oar(t *testing.T, line ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "./lab", append([]string{"exec"}, line...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", line, err, out)
	}
	return string(out)
}

// home is a file in the user's home.
func home(name string) string {
	dir, _ := exec.Command("./lab", "dir").Output()
	return filepath.Join(strings.TrimSpace(string(dir)), "home", "esk", name)
}

// submit submits the shipped job script, its program and options exchanged.
func submit(t *testing.T, name string, edit ...string) string {
	t.Helper()
	text, err := os.ReadFile("../../../scheduler-hooks/oar/job.sh")
	if err != nil {
		t.Fatal(err)
	}
	count := fmt.Sprintf("/opt/esky/esky-wrap run --name %s -- sh -c 'i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; sleep 1; done'", name, rounds)
	edit = append(edit, "esky-wrap run --name my-simulation -- ./program args", count)
	for i := 0; i < len(edit); i += 2 {
		if !strings.Contains(string(text), edit[i]) {
			t.Fatalf("the job script has no %q", edit[i])
		}
	}
	script := name + ".sh"
	if err := os.WriteFile(home(script), []byte(strings.NewReplacer(edit...).Replace(string(text))), 0o755); err != nil {
		t.Fatal(err)
	}
	return idOf(t, oar(t, "oarsub", "-S", "./"+script))
}

func idOf(t *testing.T, answer string) string {
	t.Helper()
	m := regexp.MustCompile(`OAR_JOB_ID=(\d+)`).FindStringSubmatch(answer)
	if m == nil {
		t.Fatalf("oarsub answers %s", answer)
	}
	return m[1]
}

// record is what OAR says of a job.
func record(t *testing.T, id, field string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^    ` + field + ` = (.*)$`).FindStringSubmatch(oar(t, "oarstat", "-fj", id))
	if m == nil {
		return ""
	}
	return m[1]
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for: %s\n%s", what, oar(t, "sh", "-c", "for j in 1 2 3 4 5; do oarstat -fj $j; done; :"))
		}
	}
}

func numbers(id string) []string {
	text, _ := os.ReadFile(home("OAR." + id + ".stdout")) // not there yet
	return strings.Fields(string(text))
}

func ended(t *testing.T, id, state, status string) {
	t.Helper()
	until(t, "job "+id+" is "+state, func() bool { return record(t, id, "state") == state })
	if got := record(t, id, "exit_code"); !strings.HasPrefix(got, status) {
		t.Errorf("job %s has the exit code %q, want %q", id, got, status)
	}
}

// complete checks what the incarnations have written, one after the other.
func complete(t *testing.T, ids ...string) {
	t.Helper()
	var all []string
	for _, id := range ids {
		all = append(all, numbers(id)...)
	}
	for i, n := range all {
		if n != strconv.Itoa(i+1) {
			t.Fatalf("the output goes %v …", all[:i+1])
		}
	}
	if len(all) != rounds {
		t.Errorf("the job has counted to %d, not to %d", len(all), rounds)
	}
}

// successor is the job that OAR has made of another.
func successor(t *testing.T, id string) string {
	m := regexp.MustCompile(`RESUBMIT_JOB_AUTOMATICALLY:.*job ` + id + ` => (\d+)`).FindStringSubmatch(oar(t, "oarstat", "-fj", id))
	if m == nil {
		return ""
	}
	return m[1]
}

// OAR itself warns the job ahead of its walltime, takes its status 99 for what it
// is, and brings it back on the other host.
func testWalltime(t *testing.T) {
	t.Parallel()
	first := submit(t, "walltime", "walltime=12:00:00", "walltime=0:06:25") // less the 300 s of --checkpoint: 85 s
	until(t, "it runs", func() bool { return len(numbers(first)) > 3 })
	host := record(t, first, "assigned_hostnames")
	drain := exec.Command("./lab", "exec", "oarnodesetting", "--drain", "on", "-h", host)
	drain.Env = append(os.Environ(), "ESKY_LAB_USER=root")
	if out, err := drain.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ended(t, first, "Terminated", "25344 (99,0,0)")
	var second string
	until(t, "it is submitted again", func() bool { second = successor(t, first); return second != "" })
	ended(t, second, "Terminated", "0 (0,0,0)")
	if there := record(t, second, "assigned_hostnames"); there == host {
		t.Errorf("it came back on %s, where it was", there)
	}
	if len(numbers(second)) == 0 || len(numbers(second)) == rounds {
		t.Errorf("the second incarnation wrote %d numbers", len(numbers(second)))
	}
	complete(t, first, second)
}

// A job that its user deletes does not come back; its image stays.
func testCancelled(t *testing.T) {
	t.Parallel()
	id := submit(t, "cancelled")
	until(t, "it runs", func() bool { return len(numbers(id)) > 3 })
	oar(t, "esky-wrap", "checkpoint", "--store", "esky", "cancelled")
	oar(t, "oardel", id)
	until(t, "it is deleted", func() bool { s := record(t, id, "state"); return s == "Error" || s == "Terminated" })
	if next := successor(t, id); next != "" {
		t.Errorf("it came back as %s", next)
	}
	if out := oar(t, "esky-wrap", "verify", "--store", "esky", "cancelled"); !strings.Contains(out, "good") {
		t.Errorf("its image: %s", out)
	}
}

// One that OAR would not submit again says so, and goes on when its user does.
func testNotIdempotent(t *testing.T) {
	t.Parallel()
	first := submit(t, "by-hand", "#OAR -t idempotent\n", "")
	until(t, "it runs", func() bool { return len(numbers(first)) > 3 })
	oar(t, "oardel", "-c", first)
	ended(t, first, "Terminated", "25344 (99,0,0)")
	said, err := os.ReadFile(home("OAR." + first + ".stderr"))
	if err != nil || !strings.Contains(string(said), "not of type idempotent") {
		t.Errorf("it said %v\n%s", err, said)
	}
	if next := successor(t, first); next != "" {
		t.Errorf("it came back as %s", next)
	}
	second := idOf(t, oar(t, "oarsub", "-S", "./by-hand.sh"))
	ended(t, second, "Terminated", "0 (0,0,0)")
	complete(t, first, second)
}
