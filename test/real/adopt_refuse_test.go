// SPDX-License-Identifier: Apache-2.0

package real

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// sleeper is a program that waits for a file and then ends with status 7.
const sleeper = `until [ -e go ]; do sleep 0.05; done; exit 7`

// refusal asks for an adoption that must be refused, with these words, and leave
// the process as it is and no image.
func refusal(t *testing.T, j *harness.Job, r *harness.Run, pid, status int, words ...string) {
	t.Helper()
	for _, flags := range [][]string{nil, {"--stop"}} {
		o := j.Adopt(pid, flags...)
		if o.Status != status {
			t.Errorf("adopt %v: want status %d: %s", flags, status, o)
		}
		for _, w := range words {
			if !strings.Contains(o.Stderr, w) {
				t.Errorf("adopt %v says nothing of %q: %s", flags, w, o)
			}
		}
	}
	if n := len(j.Generations()); n != 0 {
		t.Errorf("%d images", n)
	}
	if r != nil && r.Ended() {
		t.Error("the process has ended")
	}
}

func TestAdoptRefusals(t *testing.T) {
	shell := func(t *testing.T, script string) (*harness.Job, *harness.Run) {
		j := harness.NewJob(t, "bash", "-c", script)
		r := j.StartDetached()
		r.Until("the shell is there", func() bool { return len(harness.Tree(r.Pid())) > 1 })
		return j, r
	}
	end := func(t *testing.T, j *harness.Job, r *harness.Run) {
		t.Helper()
		j.Write("go", "")
		r.WaitFor(7)
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		j := harness.NewJob(t, "true")
		r := j.StartBare()
		r.Wait()
		refusal(t, j, nil, r.Pid(), harness.ExitNoImage, fmt.Sprintf("no process %d", r.Pid()))
	})
	t.Run("pipe to the outside", func(t *testing.T) {
		t.Parallel()
		j, r := shell(t, `(`+sleeper+`) | (read x; cat); exit 7`)
		reader := find(t, r, "read x")
		refusal(t, j, r, reader, harness.ExitHost, "descriptor 0", "the other end of this pipe is outside the job", "bash", "--cut")
		end(t, j, r)
	})
	t.Run("job of esky", func(t *testing.T) {
		t.Parallel()
		j := harness.NewJob(t, "bash", "-c", sleeper)
		r := j.Start()
		r.Until("the program is there", func() bool { return len(harness.Tree(r.Pid())) > 3 })
		tree := harness.Tree(r.Pid())
		other := *j
		other.Name = "other"
		refusal(t, &other, r, tree[2].Pid, harness.ExitHost, "job of esky", "esky-wrap checkpoint --store "+j.Store+" job")
		refusal(t, &other, r, tree[1].Pid, harness.ExitHost, "job of esky", "esky-wrap checkpoint")
		refusal(t, &other, r, r.Pid(), harness.ExitHost, "is esky-wrap itself")
		refusal(t, j, r, os.Getpid(), harness.ExitAgain, "job is running under esky")
		end(t, j, r)
	})
	t.Run("container", func(t *testing.T) {
		t.Parallel()
		j := harness.NewJob(t, "unshare", "--user", "--map-current-user", "--pid", "--fork", "bash", "-c", sleeper)
		r := j.StartDetached()
		r.Until("the container is there", func() bool { return len(harness.Tree(r.Pid())) > 2 })
		refusal(t, j, r, harness.Tree(r.Pid())[1].Pid, harness.ExitHost, "pid namespace")
		end(t, j, r)
	})
	t.Run("traced", func(t *testing.T) {
		harness.Need(t, "strace", "strace")
		t.Parallel()
		j, r := shell(t, sleeper)
		tracer := exec.Command("strace", "-o", "/dev/null", "-p", fmt.Sprint(r.Pid()))
		if err := tracer.Start(); err != nil {
			t.Fatal(err)
		}
		r.Until("it is traced", func() bool {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Pid()))
			return !strings.Contains(string(status), "TracerPid:\t0\n")
		})
		refusal(t, j, r, r.Pid(), harness.ExitHost, fmt.Sprintf("is being traced by pid %d", tracer.Process.Pid))
		if err := tracer.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = tracer.Wait()
		end(t, j, r)
	})
	t.Run("another user", func(t *testing.T) {
		t.Parallel()
		if os.Getuid() != 0 {
			t.Skip("only root can start a process of another user")
		}
		cmd := exec.Command("sleep", "100")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		j := harness.NewJob(t, "true")
		refusal(t, j, nil, cmd.Process.Pid, harness.ExitHost, "runs as uid 0")
	})
	t.Run("the command itself", func(t *testing.T) {
		t.Parallel()
		j := harness.NewJob(t, "bash", "-c", harness.Wrap()+" adopt --store store --name job $$; echo $?; exit 7")
		r := j.StartDetached()
		r.WaitFor(7)
		if got := j.Read("stdout"); got != "69\n" || !strings.Contains(r.Stderr(), "this very command") {
			t.Errorf("status %s: %s", got, r.Stderr())
		}
	})
	t.Run("another job's name", func(t *testing.T) {
		t.Parallel()
		j, r := shell(t, sleeper)
		adopted(t, j.Adopt(r.Pid()))
		o := j.Adopt(find(t, r, "sleep"))
		for o.Status == harness.ExitNoImage { // that one was over
			o = j.Adopt(find(t, r, "sleep"))
		}
		if o.Status != harness.ExitHost || !strings.Contains(o.Stderr, "not of this process") || len(j.Generations()) != 1 {
			t.Errorf("adopted under the name of another job: %s", o)
		}
		end(t, j, r)
	})
}

// find returns a process of the run by a part of its command line: the last one.
func find(t *testing.T, r *harness.Run, part string) int {
	t.Helper()
	pid := 0
	r.Until(part, func() bool {
		for _, p := range harness.Tree(r.Pid())[1:] {
			if strings.Contains(p.Line, part) {
				pid = p.Pid
			}
		}
		return pid != 0
	})
	return pid
}

// TestAdoptStreams has an output that goes to a process outside, as after
// `program | tee log`: what comes after the resume goes where that one writes.
// An input that is cut ends.
func TestAdoptStreams(t *testing.T) {
	j := harness.NewJob(t, "bash", "-c", `(until [ -e feed ]; do sleep 0.05; done) | bash -c 'echo first; read x || echo cut; until [ -e go ]; do sleep 0.05; done; echo second' | cat > log; exit 7`)
	r := j.StartDetached()
	r.Until("first", func() bool { return j.Read("log") == "first\n" })
	pid := find(t, r, "bash -c echo first")
	if o := j.Adopt(pid); o.Status != harness.ExitHost || !strings.Contains(o.Stderr, "descriptor 0") {
		t.Fatalf("an input from outside: %s", o)
	}
	o := j.Adopt(pid, "--stop", "--cut")
	adopted(t, o)
	if !strings.Contains(o.Stderr, "standard output") {
		t.Errorf("nothing was said of the output: %s", o)
	}
	j.Write("feed", "")
	j.Write("go", "")
	r.WaitFor(7)
	r = j.Resume()
	r.WaitFor(0)
	if log, out := j.Read("log"), j.Read("stdout"); log != "first\n" || out != "cut\nsecond\n" {
		t.Errorf("log %q, standard output %q", log, out)
	}
}

// TestAdoptFamily has members that descend from nobody: their parent, which led
// their group, has ended; they are in the root's session still.
func TestAdoptFamily(t *testing.T) {
	j := harness.NewJob(t, "bash", "-mc", `(for n in 1 2 3; do bash -c 'until [ -e go ]; do sleep 0.05; done' orphan & done) & wait; `+sleeper)
	r := j.StartDetached()
	orphans := func() (n int) {
		for _, p := range harness.Of(j.Dir) {
			if strings.HasSuffix(p.Line, " orphan") {
				n++
			}
		}
		return n
	}
	r.Until("all of them, and no parent", func() bool { return orphans() == 3 && len(harness.Tree(r.Pid())) == 2 })
	adopted(t, j.Adopt(r.Pid()))
	adopted(t, j.Adopt(r.Pid(), "--stop"))
	r.WaitFor(128 + int(syscall.SIGKILL))
	if left := harness.Of(j.Dir); len(left) != 0 {
		t.Fatalf("not ended: %v", left)
	}
	r = j.Resume()
	r.Until("the orphans are back", func() bool { return orphans() == 3 })
	j.Write("go", "")
	r.WaitFor(7)
}
