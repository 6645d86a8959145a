// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/sched/schedtest"
	"github.com/google/go-cmp/cmp"
)

// What scontrol of 22.05.8 prints, less the fields that nobody reads.
const running = `JobId=12 JobName=my job UserId=esk(5001) Priority=4294901759 Account=(null) QOS=(null) JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:11 TimeLimit=00:30:00 TimeMin=N/A EndTime=2026-11-22T18:51:25 PreemptEligibleTime=2026-11-22T18:21:25 PreemptTime=None ReqNodeList=(null) ExcNodeList=(null) NodeList=n1 CPUs/Task=1 ReqB:S:C:T=0:0:*:* Command=/home/esk/a b.sh Requeue=9 WorkDir=/home/esk StdOut=/home/esk/slurm-12.out Power= 
`

const config = `Configuration data as of 2026-11-22T18:21:48
JobFileAppend           = 0
KillWait                = 30 sec
ProctrackType           = proctrack/cgroup
SLURM_VERSION           = 22.05.8
`

// with replaces fields of a record: "Name=value".
func with(out string, fields ...string) string {
	for _, f := range fields {
		name, _, _ := strings.Cut(f, "=")
		at := strings.Index(out, " "+name+"=")
		if at < 0 {
			panic("no field " + name)
		}
		rest := out[at+1:]
		out = out[:at+1] + f + rest[strings.Index(rest, " "):]
	}
	return out
}

// fakeSlurm answers like a controller and keeps what it was asked.
type fakeSlurm struct {
	job, config string
	asked       []string
}

func (s *fakeSlurm) ask(_ context.Context, argv ...string) (string, error) {
	line := strings.Join(argv, " ")
	s.asked = append(s.asked, line)
	switch {
	case strings.Contains(line, "show job") && s.job != "":
		return s.job, nil
	case strings.Contains(line, "show config") && s.config != "":
		return s.config, nil
	}
	return "", errors.New("slurm_load: Unable to contact slurm controller")
}

var now = time.Date(2026, 11, 22, 18, 21, 36, 0, time.UTC)

func facts(s *fakeSlurm, env map[string]string) sched.Facts {
	base := map[string]string{"SLURM_JOB_ID": "12", "SLURM_TASK_PID": "63", "SLURM_OPEN_MODE": "a"}
	for k, v := range env {
		base[k] = v
	}
	return sched.Facts{
		Env:     func(k string) string { return base[k] },
		Ask:     s.ask,
		Command: []string{"./prog", "1"},
		Dir:     "/home/esk",
		Pid:     63,
		Now:     now,
		Stdout:  sched.Stream{Regular: true, Append: true, Path: "/shared/home/esk/slurm-12.out"},
	}
}

func describe(t *testing.T, f sched.Facts) sched.Job {
	t.Helper()
	j, err := Adapter{}.Describe(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestDescribeBatchJob(t *testing.T) {
	s := &fakeSlurm{job: running, config: config}
	got := describe(t, facts(s, nil))
	want := sched.Job{
		Scheduler: "slurm", ID: "12", Key: "slurm-12", Sole: true,
		End:    now.Add(30*time.Minute - 11*time.Second),
		Grace:  30 * time.Second,
		Leave:  leave,
		Ignore: []syscall.Signal{syscall.SIGCONT},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(s.asked) != 2 {
		t.Errorf("asked the controller %d times: %q", len(s.asked), s.asked)
	}
}

func TestKeys(t *testing.T) {
	hash := sched.CommandHash([]string{"./prog", "1"}, "/home/esk")
	array := map[string]string{"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "7"}
	for _, c := range []struct {
		name    string
		env     map[string]string
		pid     int
		id, key string
		sole    bool
	}{
		{"batch script's process", nil, 63, "12", "slurm-12", true},
		{"a command of the script", nil, 64, "12", "slurm-12-" + hash, false},
		{"array task", array, 63, "12_7", "slurm-12_7", true},
		{"array leader", map[string]string{"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "9"}, 63, "12_9", "slurm-12_9", true},
		{"array task 0", map[string]string{"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}, 63, "12_0", "slurm-12_0", true},
		{"step", map[string]string{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, 63, "12", "slurm-12-" + hash, false},
		{"step, another number", map[string]string{"SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "1"}, 63, "12", "slurm-12-" + hash, false},
		{"task of a step", map[string]string{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, 63, "12", "slurm-12-" + hash + "-p1", false},
		{"requeued", map[string]string{"SLURM_RESTART_COUNT": "3"}, 63, "12", "slurm-12", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts(&fakeSlurm{job: running, config: config}, c.env)
			f.Pid = c.pid
			j := describe(t, f)
			if j.ID != c.id || j.Key != c.key || j.Sole != c.sole {
				t.Errorf("got id %s, key %s, sole %v; want %s, %s, %v", j.ID, j.Key, j.Sole, c.id, c.key, c.sole)
			}
		})
	}
}

func TestAttempt(t *testing.T) {
	s := &fakeSlurm{job: running, config: config}
	if j := describe(t, facts(s, map[string]string{"SLURM_RESTART_COUNT": "3"})); j.Attempt != 3 {
		t.Errorf("attempt %d, want 3", j.Attempt)
	}
}

func TestNotAJob(t *testing.T) {
	for _, env := range []map[string]string{
		{"SLURM_JOB_ID": "../x"},
		{"SLURM_ARRAY_TASK_ID": "1"},
		{"SLURM_ARRAY_TASK_ID": "x", "SLURM_ARRAY_JOB_ID": "12"},
	} {
		if j, err := (Adapter{}).Describe(context.Background(), facts(&fakeSlurm{}, env)); err == nil {
			t.Errorf("%v: no error, job %+v", env, j)
		}
	}
}

func TestEndOfTime(t *testing.T) {
	for _, c := range []struct {
		name, job string
		env       string
		want      time.Time
	}{
		{"limit less time run", running, "", now.Add(29*time.Minute + 49*time.Second)},
		{"days", with(running, "TimeLimit=2-01:00:00", "RunTime=1-00:00:00"), "", now.Add(25 * time.Hour)},
		{"no limit", with(running, "TimeLimit=UNLIMITED"), "", time.Time{}},
		{"controller knows better", running, "1763836000", now.Add(29*time.Minute + 49*time.Second)},
		{"environment alone", "", "1763836000", time.Unix(1763836000, 0)},
		{"neither", "", "", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := describe(t, facts(&fakeSlurm{job: c.job, config: config}, map[string]string{"SLURM_JOB_END_TIME": c.env}))
			if !j.End.Equal(c.want) {
				t.Errorf("end %v, want %v", j.End, c.want)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	for value, want := range map[string]time.Duration{"30 sec": 30 * time.Second, "2 sec": 5 * time.Second} {
		conf := strings.Replace(config, "30 sec", value, 1)
		if j := describe(t, facts(&fakeSlurm{job: running, config: conf}, nil)); j.Grace != want {
			t.Errorf("KillWait %s: grace %v, want %v", value, j.Grace, want)
		}
	}
}

var appending = strings.Replace(config, "JobFileAppend           = 0", "JobFileAppend           = 1", 1)

func set(env sched.Env, key, value string) sched.Env {
	return func(k string) string {
		if k == key {
			return value
		}
		return env(k)
	}
}

func without(env sched.Env, key string) sched.Env { return set(env, key, "") }

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sched.Facts, *fakeSlurm)
		want   string // a part of the one warning; empty: none
	}{
		{"nothing to warn of", func(*sched.Facts, *fakeSlurm) {}, ""},
		{"redirected by >", func(f *sched.Facts, _ *fakeSlurm) { f.Stdout.Append = false }, "emptied"},
		{"redirected by >>", func(f *sched.Facts, _ *fakeSlurm) { f.Stdout.Path = "/x/y"; f.Env = without(f.Env, "SLURM_OPEN_MODE") }, ""},
		{"truncate", func(f *sched.Facts, s *fakeSlurm) { f.Env = set(f.Env, "SLURM_OPEN_MODE", "t"); s.config = appending }, "emptied"},
		{"neither, and the site truncates", func(f *sched.Facts, _ *fakeSlurm) { f.Env = without(f.Env, "SLURM_OPEN_MODE") }, "--open-mode=append"},
		{"neither, and the site appends", func(f *sched.Facts, s *fakeSlurm) { f.Env = without(f.Env, "SLURM_OPEN_MODE"); s.config = appending }, ""},
		{"output is a pipe", func(f *sched.Facts, _ *fakeSlurm) {
			f.Stdout = sched.Stream{}
			f.Env = set(f.Env, "SLURM_OPEN_MODE", "t")
		}, ""},
		{"linuxproc", func(_ *sched.Facts, s *fakeSlurm) {
			s.config = strings.Replace(config, "proctrack/cgroup", "proctrack/linuxproc", 1)
		}, "SIGTERM to the program itself"},
		{"pinned", func(_ *sched.Facts, s *fakeSlurm) { s.job = with(running, "ReqNodeList=n1") }, "cannot move"},
		{"no requeue", func(_ *sched.Facts, s *fakeSlurm) { s.job = with(running, "Requeue=0") }, "--no-requeue"},
		{"not exec'd", func(f *sched.Facts, _ *fakeSlurm) { f.Pid = 99 }, "exec esky-wrap"},
		{"no controller", func(_ *sched.Facts, s *fakeSlurm) { *s = fakeSlurm{} }, "does not answer"},
		{"salloc", func(_ *sched.Facts, s *fakeSlurm) { s.job = with(running, "BatchFlag=0") }, "new allocation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &fakeSlurm{job: running, config: config}
			f := facts(s, nil)
			c.change(&f, s)
			f.Ask = s.ask
			got := describe(t, f).Warnings
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("warnings %q, want %q", got, c.want)
			}
		})
	}
}

func TestInteractive(t *testing.T) {
	s := &fakeSlurm{job: with(running, "BatchFlag=0"), config: config}
	f := facts(s, nil)
	j := describe(t, f)
	f2 := facts(s, map[string]string{"SLURM_JOB_ID": "99"})
	if k := describe(t, f2).Key; k != j.Key {
		t.Errorf("the next allocation has another key: %s, %s", j.Key, k)
	}
	for _, a := range []sched.Action{Adapter{}.Leave(context.Background(), f, j), Adapter{}.Hold(j, "x")} {
		if len(a.Commands) != 0 || a.Exit == 0 || a.WaitForKill {
			t.Errorf("action %+v for a job that cannot be requeued", a)
		}
	}
}

func TestLeave(t *testing.T) {
	requeue := [][]string{{"scontrol", "requeue", "12"}}
	for _, c := range []struct {
		name    string
		job     string
		attempt int
		want    [][]string
		wait    bool
	}{
		{"ahead of the limit", running, 0, requeue, true},
		{"in a grace time", with(running, "PreemptTime=2026-11-22T18:21:37"), 0, requeue, true},
		{"second round", with(running, "Restarts=1"), 1, requeue, true},
		{"suspended", with(running, "JobState=SUSPENDED"), 0, requeue, true},
		{"--no-requeue", with(running, "Requeue=0"), 0, append([][]string{{"scontrol", "update", "JobId=12", "Requeue=1"}}, requeue...), true},
		{"preempted or requeued by the user", with(running, "JobState=COMPLETING", "Restarts=1", "RunTime=00:00:00"), 0, nil, false},
		{"pending again", with(running, "JobState=PENDING", "Restarts=1"), 0, nil, false},
		{"requeued and held", with(running, "JobState=REQUEUE_HOLD"), 0, nil, false},
		{"cancelled", with(running, "JobState=COMPLETING"), 0, nil, false},
		{"cancelled in a later round", with(running, "JobState=COMPLETING", "Restarts=2"), 2, nil, false},
		{"cancelled, shown as such", with(running, "JobState=CANCELLED"), 0, nil, false},
		{"beyond the limit", with(running, "JobState=COMPLETING", "Reason=TimeLimit"), 0, requeue, true},
		{"beyond the limit, shown as such", with(running, "JobState=TIMEOUT", "Reason=TimeLimit"), 0, requeue, true},
		{"preempted to be cancelled", with(running, "JobState=COMPLETING", "PreemptTime=2026-11-22T18:21:37"), 0, requeue, true},
		{"no controller", "", 0, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // one try
			f := facts(&fakeSlurm{job: c.job, config: config}, nil)
			a := Adapter{}.Leave(ctx, f, sched.Job{ID: "12", Attempt: c.attempt})
			if d := cmp.Diff(c.want, a.Commands); d != "" {
				t.Error(d)
			}
			if got, want := strings.Contains(a.Note, "was cancelled"), strings.HasPrefix(c.name, "cancelled"); got != want {
				t.Errorf("note %q", a.Note)
			}
			if a.Exit != sched.ExitAgain || a.WaitForKill != c.wait || a.Note == "" {
				t.Errorf("exit %d, wait %v, note %q", a.Exit, a.WaitForKill, a.Note)
			}
		})
	}
}

// Another task of the same job may ask for the requeue first.
func TestLeaveTwice(t *testing.T) {
	a := Adapter{}.Leave(context.Background(), facts(&fakeSlurm{job: running}, nil), sched.Job{ID: "12"})
	ask := func(context.Context, ...string) (string, error) {
		return "", errors.New("scontrol requeue 12: 12: Job is pending execution: exit status 1")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := sched.Perform(ctx, ask, a); err != nil {
		t.Errorf("a job that is requeued already: %v", err)
	}
}

func TestHoldAndStatus(t *testing.T) {
	hold := []string{"scontrol", "requeuehold", "12_7"}
	for _, c := range []struct {
		name         string
		job          sched.Job
		hold, status [][]string
	}{
		{
			"no comment", sched.Job{ID: "12_7"},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=esky: held: no progress"}, hold},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=esky: saved"}},
		},
		{
			"ours", sched.Job{ID: "12_7", Comment: "esky: saved"},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=esky: held: no progress"}, hold},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=esky: saved"}},
		},
		{
			"the user's", sched.Job{ID: "12_7", Comment: "96:00:00"},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=96:00:00 | esky: held: no progress"}, hold},
			nil,
		},
		{
			"--no-requeue", sched.Job{ID: "12_7", NoReturn: noRequeue},
			[][]string{{"scontrol", "update", "JobId=12_7", "Requeue=1"}, {"scontrol", "update", "JobId=12_7", "Comment=esky: held: no progress"}, hold},
			[][]string{{"scontrol", "update", "JobId=12_7", "Comment=esky: saved"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Adapter{}.Hold(c.job, "no progress")
			if d := cmp.Diff(c.hold, a.Commands); d != "" {
				t.Error(d)
			}
			// A site may requeue by exit status 75: a held job must not use it.
			if a.Exit == sched.ExitAgain || a.Exit == 0 {
				t.Errorf("exit %d", a.Exit)
			}
			if d := cmp.Diff(c.status, Adapter{}.Status(c.job, "saved").Commands); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCommentIsOneShortLine(t *testing.T) {
	a := Adapter{}.Hold(sched.Job{ID: "12"}, "two\nlines "+strings.Repeat("ü", 1000))
	text := a.Commands[0][3]
	if strings.Contains(text, "\n") || len(text) > 350 || !utf8.ValidString(text) || !strings.HasPrefix(text, "Comment=esky: held: two lines ü") {
		t.Errorf("%q", text)
	}
}

func TestParseJob(t *testing.T) {
	rec := parseJob(running)
	for name, want := range map[string]string{
		"JobName": "my job", "Command": "/home/esk/a b.sh", "CPUs/Task": "1", "Power": "",
		"Requeue": "1", // the second one is part of the user's command
	} {
		if rec[name] != want {
			t.Errorf("%s is %q, want %q", name, rec[name], want)
		}
	}
}

func FuzzParseJob(f *testing.F) {
	f.Add(running)
	f.Add("=")
	f.Add("A=1 A=2 b c")
	f.Fuzz(func(t *testing.T, s string) {
		for name := range parseJob(s) {
			if !fieldName(name) {
				t.Errorf("field %q", name)
			}
		}
	})
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"00:00:11": 11 * time.Second, "1-02:03:04": 26*time.Hour + 3*time.Minute + 4*time.Second,
		"UNLIMITED": -1, "Partition_Limit": -1, "": -1, "-1:00:00": -1, "1:00": -1, "00:00:-1": -1,
	} {
		got, ok := duration(in)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v; want %v", in, got, ok, want)
		}
	}
}

func TestScript(t *testing.T) {
	const all = "#SBATCH --time=1 --requeue --open-mode=append --signal=B:USR1@60\n"
	const run = "export ESKY_STORE=/s\nexec esky-wrap run -- ./p\n"
	schedtest.Scripts(t, Adapter{}, map[string][]string{
		"#SBATCH --time=1:00 --requeue --open-mode=append\n#SBATCH --signal=B:USR1@60 # early\n" + run: nil,
		"#SBATCH -t5 --requeue --open-mode append --signal=USR1@60\n" + run:                            {"--signal=B:USR1@60"},
		"#SBATCH --signal=B:USR1@60\n#SBATCH --no-requeue -w n1\n" + run:                               {"--open-mode", "--no-requeue", "no --time", "n1"},
		"#SBATCH --requeue --time=1 --open-mode=append\nexec ./p\n":                                    {"does not run anything", "KillWait"},
		"#SBATCH --requeue --time=1 --open-mode=append --signal=B:TERM\nesky-wrap run -- ./p\n":        {"exec esky-wrap", "ESKY_STORE"},
		all + "export ESKY_STORE=/s\nexec esky-wrap run \\\n -- ./p | tee log\n":                       {"in a pipeline"},
		all + "export ESKY_STORE=/s\nexec esky-wrap run -- sh -c './p | tee log >x'\n":                 nil,
		all + "export ESKY_STORE=/s\nesky-wrap run -- ./p >log 2>&1\necho done\n":                      {"the shell stays", "empties log"},
		all + run + "cp result /home\n":                                                                {"cp result /home"},
		all + "export ESKY_STORE=$TMPDIR/x\nexec esky-wrap run -- ./p >>log 2>&1\n":                    {"$TMPDIR/x is there on one host only"},
		all + "export ESKY_STORE=/s\nsrun -n4 esky-wrap run -- ./p\necho done\n":                       nil,
		all + "export ESKY_STORE=/s\ntrap f USR1\nesky-wrap run --name x -- ./p &\nwait\n":             nil,
		all + "#SBATCH -N 2-4 --gres=gpu:2\n#SBATCH -G1\n" + run:                                       {"--nodes=2-4", "-G 1", "--gres gpu:2"},
		all + "#SBATCH -N1 --gres=license:2\n" + run:                                                   nil,
		all + "srun ./p\n":                                  {"does not run anything", "srun … esky-wrap run"},
		all + "#SBATCH --esky\n./p\n":                       nil,
		all + "#SBATCH --comment=esky:every=1h\nsrun ./p\n": {"drop --esky"},
		"#SBATCH --time=1 --signal=B:USR1\nmodule x\n#SBATCH --requeue --open-mode=append\n" + run: {"ignores --requeue --open-mode append", "emptied", "JobRequeue"},
	})
}
