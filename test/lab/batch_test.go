// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wholeScript is a job script that knows nothing of esky.
const wholeScript = `total=0
for i in $(seq 30); do
	total=$((total + i)); echo "$i $total" >>result; sleep 0.3
done
echo "$1 $total" >>result
exit 4`

// wholeResult is what it writes.
func wholeResult(argument string) string {
	var b strings.Builder
	total := 0
	for i := 1; i <= 30; i++ {
		total += i
		b.WriteString(itoa(i) + " " + itoa(total) + "\n")
	}
	return b.String() + argument + " " + itoa(total) + "\n"
}

// A whole batch script runs under esky, though nothing in it says so: by the SPANK
// plugin's option of sbatch, by job_submit.lua, and by cli_filter.lua with it.
func TestWholeScript(t *testing.T) {
	needQuietEnd(t)
	t.Parallel()
	etc := filepath.Join(labDir(), "etc")
	for name, c := range map[string]struct {
		needs, from string
		env, args   []string
	}{
		"spank":      {"plugstack.conf", "libslurm-dev and make", nil, []string{"--esky=keep=1,every=30m"}},
		"job_submit": {"job_submit.lua", "Slurm's plugin job_submit/lua", nil, []string{"--comment=esky:keep=1"}},
		"cli_filter": {"cli_filter.lua", "Slurm's plugin cli_filter/lua", []string{"ESKY_BATCH=-"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join(etc, c.needs)); err != nil {
				t.Skip("needs " + c.from)
			}
			t.Parallel()
			j := workplace(t, "whole-"+name)
			j.env = c.env
			j.argument = name
			j.submit(wholeScript, append(c.args, "-p", "shared", "-t", "10")...)
			j.await("line 8", time.Minute, func() bool { return strings.Contains(j.read("result"), "\n8 ") })
			on(t, "scontrol", "requeue", j.id)
			j.awaitState(2*time.Minute, "FAILED", "4:0") // the script's own exit status
			if got := j.read("result"); got != wholeResult(name) {
				t.Errorf("result:\n%s", got)
			}
			if n := len(j.hosts()); n != 1 {
				t.Errorf("the script was begun %d times", n)
			}
			j.expectStates("REQUEUED", "FAILED")
		})
	}
}

// What srun starts is no part of the script: the script is told at once, and while
// srun runs a checkpoint is refused, by its name. Nothing is harmed by that.
func TestWholeScriptWithSteps(t *testing.T) {
	needEsky(t)
	t.Parallel()
	if _, err := os.Stat(filepath.Join(labDir(), "etc/job_submit.lua")); err != nil {
		t.Skip("needs Slurm's plugin job_submit/lua")
	}
	j := workplace(t, "whole-steps").submit("srun -n1 sh -c 'echo in step; until [ -e go ]; do sleep 0.2; done'\nexit 6",
		"--comment=esky", "-p", "shared", "-n1", "-t", "10")
	j.await("the step", time.Minute, func() bool { return strings.Contains(j.read("out"), "in step") })
	on(t, "scancel", "--batch", "--signal=USR1", j.id)
	j.await("the refusal", time.Minute, func() bool { return strings.Contains(j.read("err"), "(srun) has started tasks") })
	if err := os.WriteFile(filepath.Join(j.dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	j.awaitState(time.Minute, "FAILED", "6:0")
	j.expectStates("FAILED")
	if !strings.Contains(j.read("err"), "this script calls srun") {
		t.Errorf("it was not told so at the start: %s", j.read("err"))
	}
}
