// SPDX-License-Identifier: Apache-2.0

// Package stress checkpoints programs that never stand still, and big ones.
package stress

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/shim"
	"github.com/esky-hpc/esky/test/harness"
)

var (
	live   = flag.Int("live", often(100, 500), "checkpoints of the restless program while it runs")
	stops  = flag.Int("stops", often(15, 75), "and with a stop and a resume")
	cycles = flag.Int("cycles", often(30, 1000), "checkpoints with a stop and a resume, in a row")
)

// often: what takes long is only for those who ask for all tests.
func often(usually, all int) int {
	if harness.All() {
		return all
	}
	return usually
}

func TestMain(m *testing.M) {
	if engine.WorkerMain(os.Args) {
		return
	}
	flag.Parse()
	os.Exit(harness.AsUser(m, compile))
}

// compile builds the programs, while the sources are in reach.
func compile(dir string) error {
	for _, name := range []string{"churn", "big", "shared", "storm"} {
		line := []string{"-O1", "-g", "-Wall", "-o", filepath.Join(dir, name), "programs/" + name + ".c", "-pthread"}
		if out, err := exec.Command("gcc", line...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc: %w\n%s", err, out)
		}
	}
	return nil
}

// job is a running program and the directory in which it leaves word.
type job struct {
	t      *testing.T
	dir    string
	status string
	images int
	*engine.Job
}

func start(t *testing.T, preload bool, program string, args ...string) *job {
	t.Helper()
	j := &job{t: t, dir: t.TempDir()}
	j.status = filepath.Join(j.dir, "status")
	env := os.Environ()
	if preload {
		library, err := shim.Install(j.dir)
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, "LD_PRELOAD="+library)
	}
	argv := append([]string{harness.Prepared(program), j.dir}, args...)
	var err error
	if j.Job, err = engine.Start(engine.StartOptions{Argv: argv, Env: env, Dir: j.dir, StatusPath: j.status}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Kill() })
	j.await("ready")
	return j
}

// await waits for a file of the job.
func (j *job) await(name string) {
	j.t.Helper()
	for end := time.Now().Add(harness.Patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(j.dir, name)); err == nil {
			return
		}
		if time.Now().After(end) || j.MainPid() == 0 {
			j.t.Fatalf("no %s: %s", name, j.said())
		}
	}
}

// said is what the program has to complain about.
func (j *job) said() string {
	b, _ := os.ReadFile(filepath.Join(j.dir, "fail"))
	return string(b)
}

// tell makes a file for the job to see.
func (j *job) tell(name string) {
	j.t.Helper()
	if err := os.WriteFile(filepath.Join(j.dir, name), nil, 0o600); err != nil {
		j.t.Fatal(err)
	}
}

// save makes a checkpoint; with stop the job ends with it.
func (j *job) save(stop bool) (string, *engine.Checkpoint) {
	j.t.Helper()
	j.images++
	dir := filepath.Join(j.dir, fmt.Sprint("image", j.images))
	if err := os.Mkdir(dir, 0o700); err != nil {
		j.t.Fatal(err)
	}
	c, err := engine.Save(context.Background(), engine.CheckpointOptions{
		Job: j.Job, Dir: dir, Stop: stop, Meta: &imagepb.Image{Job: "stress"},
	}, nil)
	if err != nil {
		j.t.Fatalf("checkpoint %d (stop: %v): %v %s", j.images, stop, err, j.said())
	}
	return dir, c
}

func (j *job) saveLive() time.Duration {
	j.t.Helper()
	dir, c := j.save(false)
	j.remove(dir)
	return c.Pause
}

func (j *job) remove(dir string) {
	j.t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		j.t.Fatal(err)
	}
}

// move stops the job with a checkpoint and resumes it.
func (j *job) move() {
	j.t.Helper()
	dir, c := j.save(true)
	if err := c.Finish(true); err != nil {
		j.t.Fatal(err)
	}
	if _, err := j.Wait(); err != nil {
		j.t.Fatal(err)
	}
	if said := j.said(); said != "" {
		j.t.Fatalf("before checkpoint %d: %s", j.images, said)
	}
	resumed, _, err := engine.Resume(context.Background(), engine.ResumeOptions{
		Image: dir, StatusPath: j.status, SavedDir: j.dir,
	}, nil)
	if err != nil {
		j.t.Fatalf("resume %d: %v", j.images, err)
	}
	j.Job = resumed
	j.remove(dir)
}

// finish tells the job to end, and wants it content.
func (j *job) finish() {
	j.t.Helper()
	j.tell("stop")
	late := time.AfterFunc(harness.Patience, func() { _ = j.Kill() })
	defer late.Stop()
	exit, err := j.Wait()
	if err != nil || exit.Status() != 0 || j.said() != "" {
		j.t.Fatalf("%+v, %v, after %d checkpoints: %s", exit, err, j.images, j.said())
	}
}

// TestChurn saves a job again and again whose processes and threads come, go,
// stop and signal each other all the time, and that keeps books of it.
func TestChurn(t *testing.T) {
	for _, preload := range []bool{true, false} {
		t.Run(map[bool]string{true: "preloaded", false: "injected"}[preload], func(t *testing.T) { churn(t, preload) })
	}
}

func churn(t *testing.T, preload bool) {
	random := harness.Rand(t)
	j := start(t, preload, "churn")
	var longest, all time.Duration
	moves := 0
	for i := range *live {
		time.Sleep(time.Duration(random.Intn(20)) * time.Millisecond)
		pause := j.saveLive()
		longest, all = max(longest, pause), all+pause
		for moves*(*live) < i*(*stops) {
			j.move()
			moves++
		}
		if said := j.said(); said != "" {
			t.Fatalf("after %d checkpoints and %d resumes: %s", i+1, moves, strings.TrimSpace(said))
		}
	}
	j.finish()
	t.Logf("%d checkpoints, %d resumes; pause %v on average, %v at most", *live, moves, all/time.Duration(max(*live, 1)), longest)
}

// TestSoak takes the restless program away and brings it back, again and again.
func TestSoak(t *testing.T) {
	random := harness.Rand(t)
	j := start(t, true, "churn")
	began := time.Now()
	for i := range *cycles {
		time.Sleep(time.Duration(random.Intn(50)) * time.Millisecond)
		j.move()
		if said := j.said(); said != "" {
			t.Fatalf("after %d resumes: %s", i+1, strings.TrimSpace(said))
		}
	}
	j.finish()
	t.Logf("%d cycles of checkpoint and resume without a failure, in %v", *cycles, time.Since(began).Round(time.Second))
}
