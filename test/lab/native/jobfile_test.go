// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// jobFile is a job file as it is shipped, in the hands of a scheduler that starts it,
// warns it, and starts it again as that scheduler documents. Only its program is ours.
type jobFile struct {
	file    string                                   // below scheduler-hooks
	run     func(t *testing.T, text string) []string // what is executed for it; nil: it is a script
	env     []string                                 // of the first run
	again   []string                                 // of the second, if that is not the same
	warning syscall.Signal
	spread  bool     // it goes to the job's whole session
	status  int      // of a job that has left
	asked   string   // the one call of a command of the scheduler's; empty: none
	keeps   []string // what of its directory travels; nil: all hosts share it
}

var jobFiles = map[string]jobFile{
	"PBS, with the site's hook": {
		file: "pbs/job.sh", env: []string{"PBS_JOBID=21.server", "PBS_WALLTIME=43200", "ESKY_PBS_RERUN=1", "PBS_O_WORKDIR=@"},
		warning: syscall.SIGTERM, spread: true, status: 99,
	},
	"PBS, without it": {
		file: "pbs/job.sh", env: []string{"PBS_JOBID=22.server", "PBS_WALLTIME=43200", "PBS_O_WORKDIR=@"},
		again:   []string{"PBS_JOBID=23.server", "PBS_WALLTIME=43200", "PBS_O_WORKDIR=@"},
		warning: syscall.SIGTERM, spread: true, status: harness.ExitAgain, asked: "qsub job.sh",
	},
	"LSF": {
		file: "lsf/job.sh", env: []string{"LSB_JOBID=24", "LSB_JOBINDEX=0", "LSB_HOSTS=a"},
		warning: syscall.SIGUSR1, spread: true, status: harness.ExitAgain, asked: "brequeue 24",
	},
	"LSF, a queue's JOB_STARTER": {
		file: "lsf/README.md", run: starterLine, env: []string{"LSB_JOBID=28", "LSB_JOBINDEX=0", "ESKY_STORE=@/esky"},
		warning: syscall.SIGTERM, spread: true, status: harness.ExitAgain, asked: "brequeue 28",
	},
	"Flux": {
		file: "flux/job.sh", env: []string{"FLUX_JOB_ID=f25"}, again: []string{"FLUX_JOB_ID=f26"},
		warning: syscall.SIGUSR1, status: harness.ExitAgain, asked: "flux batch --dependency=afterany:f25 @/job.sh",
	},
	"HTCondor": {
		file: "htcondor/job.sub", env: []string{"_CONDOR_JOB_AD=@/.job.ad", "_CONDOR_SCRATCH_DIR=@"},
		run: condorLine, warning: syscall.SIGTERM, status: 85, keeps: []string{".esky", "out", "program"},
	},
	"Nomad": {
		file: "nomad/job.nomad.hcl", run: nomadLine, env: []string{
			"NOMAD_ALLOC_ID=1b2c", "NOMAD_JOB_ID=fold", "NOMAD_GROUP_NAME=main", "NOMAD_TASK_NAME=main", "NOMAD_ALLOC_INDEX=0",
			"ESKY_STORE=@/esky", "ESKY_NOMAD_GRACE=120",
		},
		again: []string{
			"NOMAD_ALLOC_ID=3d4e", "NOMAD_JOB_ID=fold", "NOMAD_GROUP_NAME=main", "NOMAD_TASK_NAME=main", "NOMAD_ALLOC_INDEX=0",
			"ESKY_STORE=@/esky", "ESKY_NOMAD_GRACE=120",
		},
		warning: syscall.SIGTERM, status: harness.ExitAgain,
	},
}

func TestJobFiles(t *testing.T) {
	t.Parallel()
	for name, c := range jobFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, 1000)
			line := s.prepare(c)
			job := s.begin(s.command(line, c.env))
			s.until("it counts", func() bool { return len(s.numbers()) > 5 })
			s.warn(job, c)
			if got := s.status(job); got != c.status {
				t.Errorf("it left with %d", got)
			}
			if n := len(s.numbers()); n == steps {
				t.Error("it has ended")
			}
			asked, _ := os.ReadFile(filepath.Join(s.dir, "asked")) // none
			if got := slices.DeleteFunc(strings.Split(string(asked), "\n"), harmless); strings.Join(got, "; ") != s.here(c.asked) {
				t.Errorf("the scheduler was asked %q", got)
			}
			if c.keeps != nil {
				s.anotherSandbox(c.keeps)
			}
			if c.again == nil {
				c.again = c.env
			}
			if got := s.status(s.begin(s.command(line, c.again))); got != 0 {
				t.Errorf("it ended with %d", got)
			}
			s.complete()
		})
	}
}

// harmless are questions, and notes beside the job.
func harmless(call string) bool {
	return call == "" || strings.HasPrefix(call, "bpost ") || strings.HasPrefix(call, "qstat ") || call == "flux job timeleft"
}

func (s *stand) here(text string) string { return strings.ReplaceAll(text, "@", s.dir) }

// prepare makes what the job needs, and commands that write down how they are called.
func (s *stand) prepare(c jobFile) []string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(), "scheduler-hooks", c.file))
	if err != nil {
		s.t.Fatal(err)
	}
	files := map[string]string{
		"job.sh": string(text), "program": "#!/bin/sh\n" + fmt.Sprintf(counting, steps) + "\n",
		".job.ad": "ClusterId = 27\nProcId = 0\nJobMaxVacateTime = 300\nSuccessCheckpointExitCode = 85\nTransferCheckpoint = \".esky, out\"\n",
	}
	for _, name := range []string{"qsub", "qstat", "brequeue", "bpost", "flux"} {
		files["bin/"+name] = "#!/bin/sh\necho \"" + name + " $*\" >>" + s.dir + "/asked\n"
	}
	for name, text := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	if c.run != nil {
		return c.run(s.t, string(text))
	}
	return []string{"/bin/sh", filepath.Join(s.dir, "job.sh")}
}

func (s *stand) command(line, env []string) *exec.Cmd {
	s.t.Helper()
	all := []string{"PATH=" + filepath.Join(s.dir, "bin") + ":" + filepath.Dir(harness.Wrap()) + ":/usr/bin:/bin", "HOME=" + s.dir}
	for _, v := range env {
		all = append(all, s.here(v))
	}
	cmd := s.as(s.user, all, line...)
	cmd.Stdout, cmd.Stderr = s.file("out"), s.file("err")
	return cmd
}

func (s *stand) warn(job *running, c jobFile) {
	s.t.Helper()
	for _, p := range harness.Tree(job.Process.Pid) {
		session, err := sessionOf(p.Pid)
		if p.Pid == job.Process.Pid || c.spread && err == nil && session == job.Process.Pid {
			_ = syscall.Kill(p.Pid, c.warning)
		}
	}
}

func sessionOf(pid int) (int, error) {
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(session), nil
}

// anotherSandbox leaves of the job's directory only what travels with it.
func (s *stand) anotherSandbox(keeps []string) {
	s.t.Helper()
	names, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range names {
		if !slices.Contains(append(keeps, ".job.ad"), n.Name()) {
			if err := os.RemoveAll(filepath.Join(s.dir, n.Name())); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// condorLine is what the starter executes for a submit file.
func condorLine(t *testing.T, text string) []string {
	t.Helper()
	args := regexp.MustCompile(`(?m)^arguments\s*= "(.*)"$`).FindStringSubmatch(text)
	if args == nil || !strings.Contains(text, "/esky-wrap\n") {
		t.Fatal("the submit file does not run esky-wrap")
	}
	return append([]string{harness.Wrap()}, strings.Fields(args[1])...)
}

// starterLine is what LSF gives to a shell, by the administrator's line of the page.
func starterLine(t *testing.T, text string) []string {
	t.Helper()
	starter := regexp.MustCompile(`(?m)^ *JOB_STARTER = (.*%USRCMD.*)$`).FindStringSubmatch(text)
	if starter == nil {
		t.Fatal("the page has no JOB_STARTER")
	}
	return []string{"/bin/sh", "-c", strings.ReplaceAll(starter[1], "%USRCMD", "./program args")}
}

// nomadLine is what the driver executes for a job's file.
func nomadLine(t *testing.T, text string) []string {
	t.Helper()
	args := regexp.MustCompile(`args\s*= \[(.*)\]`).FindStringSubmatch(text)
	if args == nil || !strings.Contains(text, `/esky-wrap"`) {
		t.Fatal("the job's file does not run esky-wrap")
	}
	line := strings.ReplaceAll(strings.ReplaceAll(args[1], `"`, ""), "/opt/my/program", "./program")
	return append([]string{harness.Wrap()}, strings.Split(line, ", ")...)
}
