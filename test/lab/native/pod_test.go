// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

// grace is terminationGracePeriodSeconds, and what a pod's end may take.
const grace = 20 * time.Second

// pod starts the job as a container's first process, as its user.
func (s *stand) pod() *running {
	s.t.Helper()
	line := append([]string{
		"unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
		"setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups",
	}, wrapped()...)
	cmd := s.as(0, s.jobEnv(), line...)
	cmd.Stdout, cmd.Stderr = s.file("out"), s.file("err")
	return s.begin(cmd)
}

// children are those of a process.
func children(t *testing.T, pid int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, list := range lists {
		text, _ := os.ReadFile(list) // of a thread that has ended there is none
		for _, f := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	return all
}

// A pod has to go, and its Job makes another: SIGTERM to the first process, which
// saves the job within the grace, ends with the manifest's status, and goes on in
// the next pod. Meanwhile it is the parent of what "kubectl exec" leaves behind.
func TestPod(t *testing.T) {
	t.Parallel()
	s := newStand(t, 1000, "KUBERNETES_SERVICE_HOST=10.0.0.1", "ESKY_K8S_JOB=fold", fmt.Sprintf("ESKY_K8S_GRACE=%v", grace.Seconds()))
	job := s.pod()
	s.until("it counts", func() bool { return len(s.numbers()) > 5 })
	first := children(t, job.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("unshare has the children %v", first)
	}
	for range 3 {
		if status, out := s.call(0, nil, "nsenter", "--target", strconv.Itoa(first[0]), "--pid", "--mount", "sh", "-c", "sleep 0.1 &"); status != 0 {
			t.Fatalf("nsenter: status %d: %s", status, out)
		}
	}
	s.until("orphans are reaped", func() bool { return len(children(t, first[0])) == 1 })
	begin := time.Now()
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := s.status(job); got != harness.ExitAgain {
		t.Errorf("the pod ended with %d", got)
	}
	if took := time.Since(begin); took > grace {
		t.Errorf("it took %v", took)
	}
	if saved := len(s.numbers()); saved == 0 || saved == steps {
		t.Errorf("it has counted to %d", saved)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "store", "k8s-fold", "gen-000001")); err != nil {
		t.Error(err)
	}
	if got := s.status(s.pod()); got != 0 {
		t.Errorf("the next pod ended with %d", got)
	}
	s.complete()
}

// The status of a pod is the program's, also if a signal has ended that.
func TestPodStatus(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{"exit 3": 3, "kill -KILL $$": 137} {
		s := newStand(t, 1000, "KUBERNETES_SERVICE_HOST=10.0.0.1", "ESKY_K8S_JOB=fold")
		status, out := s.call(0, s.jobEnv(), "unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
			"setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", harness.Wrap(), "run", "--", "sh", "-c", line)
		if status != want {
			t.Errorf("%s: status %d: %s", line, status, out)
		}
	}
}
