// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Exit codes of esky-wrap itself.
const (
	ExitAgain    = 75 // checkpointed: run the same line again
	ExitUsage    = 64
	ExitDamaged  = 65
	ExitNoImage  = 66
	ExitHost     = 69
	ExitInternal = 70
	ExitStore    = 73
)

// Patience is how long a test waits for anything before it gives up: far more
// than any of it takes on a slow machine. A package whose jobs are long may have
// more of it.
var Patience = 90 * time.Second

// A Job is one line of a job script, to be run as often as it takes.
type Job struct {
	T     testing.TB
	Dir   string   // working directory; stdout is appended to Dir/stdout
	Store string   // of the images
	Name  string   // key in the store
	Argv  []string // the program
	Env   []string // additions to the clean environment
	Flags []string // further flags of esky-wrap run
	Under []string // a command that runs esky-wrap, such as unshare

	Session bool // what is started leads a session of its own

	runs int
}

// NewJob is a job in a new directory of its own.
func NewJob(t testing.TB, argv ...string) *Job {
	t.Helper()
	dir := Dir(t)
	return &Job{T: t, Dir: dir, Store: filepath.Join(dir, "store"), Name: "job", Argv: argv}
}

// Path of a file in the job's directory.
func (j *Job) Path(name string) string { return filepath.Join(j.Dir, name) }

// Read is the content of a file in the job's directory, "" if there is none.
func (j *Job) Read(name string) string {
	data, err := os.ReadFile(j.Path(name))
	if err != nil && !os.IsNotExist(err) {
		j.T.Fatal(err)
	}
	return string(data)
}

// Write makes a file in the job's directory that belongs to the job's user. It
// appears under its name only when it is complete.
func (j *Job) Write(name, content string) {
	j.T.Helper()
	tmp := j.Path(name + ".tmp")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		j.T.Fatal(err)
	}
	Give(j.T, tmp)
	if err := os.Rename(tmp, j.Path(name)); err != nil {
		j.T.Fatal(err)
	}
}

// Start runs the line of the job script. The job's standard output goes to the
// end of the same file at each run, as a batch system does that appends; the
// standard error of each run has a file of its own, so that what esky says can
// be told apart.
func (j *Job) Start() *Run {
	j.T.Helper()
	args := append([]string{"run", "--store", j.Store, "--name", j.Name}, j.Flags...)
	return j.start(append(append(args, "--"), j.Argv...))
}

// Resume runs "esky-wrap resume" in place of the line of the job script.
func (j *Job) Resume(flags ...string) *Run {
	j.T.Helper()
	args := append([]string{"resume", "--store", j.Store}, flags...)
	return j.start(append(args, j.Name))
}

func (j *Job) start(args []string) *Run {
	j.T.Helper()
	return j.begin(append(append(slices.Clone(j.Under), wrap), args...), j.Session)
}

// StartBare starts the program without esky.
func (j *Job) StartBare() *Run {
	j.T.Helper()
	return j.begin(j.Argv, j.Session)
}

// StartDetached starts the program without esky as people do for long work: in
// a session of its own, deaf to hangups.
func (j *Job) StartDetached() *Run {
	j.T.Helper()
	return j.begin(append([]string{"nohup"}, j.Argv...), true)
}

// StartBeside starts the program without esky as the child of a shell, which
// leads nothing and stays behind: Child is its pid.
func (j *Job) StartBeside() *Run {
	j.T.Helper()
	return j.begin(append([]string{"sh", "-c", `"$@"; exit $?`, "sh"}, j.Argv...), j.Session)
}

// Child is the first child of the command that was started.
func (r *Run) Child() int {
	r.job.T.Helper()
	if tree := Tree(r.Pid()); len(tree) > 1 {
		return tree[1].Pid
	}
	r.job.T.Fatal("the command has no child")
	return 0
}

// Bare runs the program without esky and returns its status.
func (j *Job) Bare() int {
	j.T.Helper()
	return j.StartBare().Wait()
}

func (j *Job) begin(line []string, session bool) *Run {
	j.T.Helper()
	cmd := Command(j.Dir, line[0], line[1:]...)
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setpgid = session, !session
	cmd.Env = append(cmd.Env, j.Env...)
	j.runs++
	r := &Run{job: j, cmd: cmd, done: make(chan struct{}), stderr: fmt.Sprintf("stderr.%d", j.runs)}
	cmd.Stdout = j.create("stdout")
	cmd.Stderr = j.create(r.stderr)
	r.begin()
	return r
}

func (j *Job) create(name string) *os.File {
	f, err := os.OpenFile(j.Path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		j.T.Fatal(err)
	}
	Give(j.T, j.Path(name))
	return f
}

// An Outcome is what a command of esky-wrap came to.
type Outcome struct {
	Status         int
	Stdout, Stderr string
	Took           time.Duration
}

func (o Outcome) String() string {
	return fmt.Sprintf("status %d after %s\n%s%s", o.Status, o.Took.Round(time.Millisecond), o.Stdout, o.Stderr)
}

// Esky runs another command of esky-wrap on the job's store as the job's user.
// Flags come before the job's name, which is added when named is set.
func (j *Job) Esky(verb string, flags ...string) Outcome {
	j.T.Helper()
	args := append([]string{verb, "--store", j.Store}, flags...)
	return j.Command(append(append(slices.Clone(j.Under), wrap), append(args, j.Name)...)...)
}

// Command runs any command as the job's user in the job's directory.
func (j *Job) Command(line ...string) Outcome {
	j.T.Helper()
	cmd := Command(j.Dir, line[0], line[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	start := time.Now()
	if err := cmd.Start(); err != nil {
		j.T.Fatalf("%s: %v", line[0], err)
	}
	late := time.AfterFunc(Patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait() // the status says it
	return Outcome{statusOf(cmd), stdout.String(), stderr.String(), time.Since(start)}
}

// Checkpoint makes a checkpoint of the running job, which must succeed. A job
// that has only just been started is waited for.
func (j *Job) Checkpoint(flags ...string) Outcome {
	j.T.Helper()
	o := j.TryCheckpoint(flags...)
	if o.Status != 0 {
		j.T.Fatalf("esky-wrap checkpoint %s: %s", strings.Join(flags, " "), o)
	}
	return o
}

// TryCheckpoint is Checkpoint that may fail.
func (j *Job) TryCheckpoint(flags ...string) Outcome {
	j.T.Helper()
	o := j.Esky("checkpoint", flags...)
	for end := time.Now().Add(10 * time.Second); o.Status == ExitNoImage && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		o = j.Esky("checkpoint", flags...)
	}
	return o
}

// Adopt runs "esky-wrap adopt" on a process that was started without esky, under
// the job's name.
func (j *Job) Adopt(pid int, flags ...string) Outcome {
	j.T.Helper()
	args := append([]string{wrap, "adopt", "--store", j.Store, "--name", j.Name}, flags...)
	return j.Command(append(args, fmt.Sprint(pid))...)
}

// Generations are the numbers of the published images, oldest first.
func (j *Job) Generations() []string {
	names, err := filepath.Glob(filepath.Join(j.Store, j.Name, "gen-*"))
	if err != nil {
		j.T.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// statusOf is the status of an ended command as a shell shows it.
func statusOf(cmd *exec.Cmd) int {
	s := cmd.ProcessState
	if s == nil {
		return -1
	}
	if code := s.ExitCode(); code >= 0 {
		return code
	}
	return 128 + int(signalOf(s))
}
