// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
	"github.com/esky-hpc/esky/test/harness"
)

// savesItself is the counter of plugintest as a program that saves itself the way the
// examples want it.
var savesItself = []string{"/bin/sh", "-c", `
n=0 sum=0
[ -e "$STATE" ] && . "$STATE"
echo $((n + 1)) >> begun
trap 'echo "n=$n sum=$sum" > "$STATE.new"; mv "$STATE.new" "$STATE"' USR1
while [ $n -lt 40 ] || [ ! -e finish ]; do
	n=$((n + 1))
	[ $n -gt 40 ] || sum=$(((sum * 31 + n) % 1000003))
	echo $n > progress.new && mv progress.new progress
	sleep 0.03
done
echo "sum $sum"
exit 3`}

// example builds one of the programs in contrib/plugins.
func example(t *testing.T, dir, name, folder string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./contrib/plugins/"+folder)
	cmd.Dir = harness.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestExampleProvider runs the suite for the example in Go.
func TestExampleProvider(t *testing.T) {
	t.Parallel()
	path := example(t, t.TempDir(), "esky-provider-example", "provider")
	short(t, filepath.Join(harness.Root(), "contrib/plugins/provider/main.go"), 100)
	plugintest.Provider(t, plugintest.ProviderCase{Open: opener(path), Close: closer, Program: savesItself})
}

// short is what the examples are meant to be.
func short(t *testing.T, path string, most int) {
	b, err := os.ReadFile(path)
	if n := strings.Count(string(b), "\n"); err != nil || n > most {
		t.Errorf("%s has %d lines, more than %d (%v)", path, n, most, err)
	}
}

// TestPythonProvider runs the suite for the example in Python.
func TestPythonProvider(t *testing.T) {
	t.Parallel()
	harness.Need(t, "protoc", "protobuf-compiler")
	if err := exec.Command("/usr/bin/python3", "-c", "import grpc, google.protobuf").Run(); err != nil {
		t.Skip("no gRPC for Python here: install python3-grpcio and python3-protobuf")
	}
	dir, root := t.TempDir(), harness.Root()
	path := filepath.Join(dir, "esky-provider-python")
	harness.CopyProgram(t, filepath.Join(root, "contrib/plugins/python/esky-provider-python"), path)
	if out, err := exec.Command("protoc", "-I", filepath.Join(root, "plugin/wire"), "--python_out="+dir, "provider.proto").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	plugintest.Provider(t, plugintest.ProviderCase{Open: opener(path), Close: closer, Program: savesItself})
}

// TestHost: the example host starts, saves, kills and resumes a job.
func TestHost(t *testing.T) {
	t.Parallel()
	dir := harness.Dir(t)
	path := example(t, dir, "host", "host")
	if err := os.WriteFile(filepath.Join(dir, "finish"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := harness.Command(dir, path, append([]string{harness.Program(t, "esky-provider"), dir}, append(plugintest.Counter[:2:2], strings.ReplaceAll(plugintest.Counter[2], "-lt 40", "-lt 120"))...)...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "killed: status 137\nended: status 3\n") {
		t.Errorf("%v\n%s", err, out)
	}
	begun, _ := os.ReadFile(filepath.Join(dir, "begun"))
	sum, _ := os.ReadFile(filepath.Join(dir, "stdout"))
	if string(begun) != "1\n" || !strings.HasPrefix(string(sum), "sum ") {
		t.Errorf("begun %q, stdout %q", begun, sum)
	}
}

// spool is a stand-in for the commands of the queue of the example scheduler.
const spool = `#!/bin/sh
echo "spool $*" >> "$SPOOL_LOG"
`

// TestSchedulerConformance runs the suite for the example.
func TestSchedulerConformance(t *testing.T) {
	t.Parallel()
	path := example(t, t.TempDir(), "esky-scheduler-example", "scheduler")
	plugintest.Scheduler(t, plugintest.SchedulerCase{
		Open: func(t *testing.T) plugin.Scheduler {
			p, err := plugin.Open(plugin.HostConfig{Found: plugin.Found{Path: path}, StartTime: harness.Patience, Log: func(line string) { t.Log(line) }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Close)
			return p.Scheduler()
		},
		Env:   [][]string{{"SPOOL_ID=17", "SPOOL_TRY=0"}, {"SPOOL_ID=17", "SPOOL_TRY=1", "SPOOL_END=4102444800"}},
		Other: []string{"SPOOL_ID=18", "SPOOL_TRY=0"},
	})
}

// TestExampleScheduler: a job of a queue that only the plugin knows: what its signals
// mean, how it comes back, when it has ended.
func TestExampleScheduler(t *testing.T) {
	t.Parallel()
	j := harness.NewJob(t, "/bin/sh", "-c", "trap 'echo usr1 >> got' USR1; while [ ! -e go ]; do echo >> step; sleep 0.02; done; exit 4")
	plugins, bin := j.Path("plugins"), j.Path("bin")
	for _, d := range []string{plugins, bin} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	example(t, plugins, "esky-scheduler-example", "scheduler")
	// One before it in the alphabet that does not work is passed over.
	harness.WriteProgram(t, func() error {
		return os.WriteFile(filepath.Join(plugins, "esky-scheduler-broken"), []byte("#!/bin/sh\necho oh dear >&2; exit 1\n"), 0o755)
	})
	harness.WriteProgram(t, func() error {
		return os.WriteFile(filepath.Join(bin, "spool"), []byte(spool), 0o755)
	})
	j.Name = "spool-17"
	env := func(try string) []string {
		return []string{plugin.PathVariable + "=" + plugins, "PATH=" + bin + ":/usr/bin:/bin", "SPOOL_ID=17", "SPOOL_TRY=" + try, "SPOOL_LOG=" + j.Path("log")}
	}
	j.Env = env("0")
	j.Session = true // as what a scheduler starts
	r := j.Start()
	r.Until("it is at work", func() bool { return j.Read("step") != "" })
	monitor := r.Pid()
	signal(t, monitor, "USR1")
	r.Until("its own signal reaches it", func() bool { return j.Read("got") != "" })
	signal(t, monitor, "CONT")
	signal(t, monitor, "USR2")
	r.WaitFor(harness.ExitAgain)
	said := r.Stderr()
	for _, want := range []string{"scheduler plugin broken is left out: ", "spool does not tell when", "signal USR2", "spool starts it again"} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q: %s", want, said)
		}
	}
	if log := j.Read("log"); log != "spool want 17 arch=amd64\nspool again 17\n" {
		t.Errorf("it told the queue %q", log)
	}
	j.Env = env("1")
	j.Write("go", "")
	j.Start().WaitFor(4)
	if log := j.Read("log"); !strings.HasSuffix(log, "\nspool done 17 4\n") {
		t.Errorf("it told the queue %q", log)
	}
}

func signal(t *testing.T, pid int, name string) {
	t.Helper()
	if out, err := exec.Command("kill", "-"+name, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
