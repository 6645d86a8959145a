// SPDX-License-Identifier: Apache-2.0

// Package providers tests programs that save themselves, through esky-wrap, with the
// configurations that contrib/applications has for them.
package providers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const contrib = "../../contrib/applications/"

// program is one that saves itself.
type program struct {
	config string
	files  map[string]string // copied to the job's directory: from, to
	argv   []string
	setup  string // a shell command, in the job's directory
	step   func(j *harness.Job) int
	check  func(t *testing.T, j, undisturbed *harness.Job)
}

// run takes a program away in all ways: it is saved and runs on, it is stopped and
// resumed, all of it is killed and goes on from the last image.
func (p program) run(t *testing.T) {
	undisturbed := p.job(t)
	undisturbed.StartBare().WaitFor(0)
	j := p.job(t)
	j.Flags = []string{"--provider", "application", "--provider-opt", "config=config.toml"}
	r := j.Start()
	r.Until("it has begun", func() bool { return p.step(j) > 0 })
	if o := j.Checkpoint(); o.Status != 0 {
		t.Fatal(o)
	}
	at := p.step(j)
	r.Until("it runs on", func() bool { return p.step(j) > at })
	if o := j.Checkpoint("--stop"); o.Status != 0 {
		t.Fatal(o)
	}
	r.WaitFor(harness.ExitAgain)
	at = p.step(j)

	j.Flags = nil // the image knows by whom it was made, and how
	r = j.Start()
	r.Until("it goes on", func() bool { return p.step(j) > at })
	if !strings.Contains(r.Stderr(), "resumed job from checkpoint 2") {
		t.Errorf("it says %s", r.Stderr())
	}
	if o := j.Checkpoint(); o.Status != 0 {
		t.Fatal(o)
	}
	at = p.step(j)
	r.Until("it runs on", func() bool { return p.step(j) > at })
	if o := j.Esky("verify"); o.Status != 0 {
		t.Error(o)
	}
	r.Crash()

	r = j.Start()
	r.WaitFor(0)
	if !strings.Contains(r.Stderr(), "resumed job from checkpoint 3") {
		t.Errorf("it says %s", r.Stderr())
	}
	p.check(t, j, undisturbed)
}

func (p program) job(t *testing.T) *harness.Job {
	t.Helper()
	j := harness.NewJob(t, p.argv...)
	for from, to := range p.files {
		b, err := os.ReadFile(contrib + from)
		if err != nil {
			t.Fatal(err)
		}
		j.Write(to, string(b))
	}
	b, err := os.ReadFile(contrib + p.config)
	if err != nil {
		t.Fatal(err)
	}
	j.Write("config.toml", string(b))
	if p.setup != "" {
		if o := j.Command("sh", "-c", p.setup); o.Status != 0 {
			t.Fatal(o)
		}
	}
	return j
}

// TestScript: a script in the manner of PyTorch computes the same as undisturbed.
func TestScript(t *testing.T) {
	t.Parallel()
	harness.Need(t, "/usr/bin/python3", "python3")
	program{
		config: "pytorch.toml", files: map[string]string{"train.py": "train.py"}, argv: []string{"/usr/bin/python3", "train.py"},
		step: func(j *harness.Job) int {
			n, _ := strconv.Atoi(strings.TrimSpace(j.Read("progress")))
			return n
		},
		check: func(t *testing.T, j, undisturbed *harness.Job) {
			if got, want := j.Read("stdout"), undisturbed.Read("stdout"); got != want || want == "" {
				t.Errorf("it says %q, undisturbed %q", got, want)
			}
			begun := strings.Fields(j.Read("begun"))
			if len(begun) != 3 || begun[0] != "0" || begun[1] == "0" || begun[2] == "0" {
				t.Errorf("it has begun at steps %v", begun)
			}
		},
	}.run(t)
}

// TestGromacs: molecular dynamics gives the same bits as undisturbed.
func TestGromacs(t *testing.T) {
	if !harness.All() {
		t.Skip("takes minutes: ESKY_TEST=all")
	}
	harness.Programs(t, []string{"gmx"}, []string{"gromacs"})
	here, err := filepath.Abs("../apps/programs/gromacs")
	if err != nil {
		t.Fatal(err)
	}
	program{
		config: "gromacs.toml",
		argv:   strings.Fields("gmx -nobackup mdrun -s topol.tpr -ntmpi 2 -ntomp 1 -reprod -notunepme -dlb no -pin off -deffnm md -cpo state.cpt"),
		setup:  "sed 's/^nsteps.*/nsteps = 1000/; s/^dt.*/dt = 0.001/' " + here + "/md.mdp >md.mdp && " + here + "/setup",
		step:   func(j *harness.Job) int { return strings.Count(j.Read("md.xtc"), "\x00\x00\x07\xcb") }, // the magic number of a frame, 1995
		check: func(t *testing.T, j, undisturbed *harness.Job) {
			frames := func(j *harness.Job) string {
				cmd := exec.Command("gmx", "-quiet", "dump", "-f", j.Path("md.xtc"))
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("gmx dump: %v", err)
				}
				_, numbers, _ := strings.Cut(string(out), "\n")
				return numbers
			}
			got, want := frames(j), frames(undisturbed)
			if strings.Count(want, "natoms=") != 11 {
				t.Errorf("%d frames", strings.Count(want, "natoms="))
			}
			if strings.ReplaceAll(got, j.Dir, "") != strings.ReplaceAll(want, undisturbed.Dir, "") {
				t.Error("the trajectory is not that of an undisturbed run")
			}
		},
	}.run(t)
}

// TestLammps: a restart of LAMMPS makes its neighbour lists anew, so that sums are
// rounded otherwise: what is conserved is the same, and every step is there.
func TestLammps(t *testing.T) {
	if !harness.All() {
		t.Skip("takes a minute: ESKY_TEST=all")
	}
	harness.Programs(t, []string{"lmp"}, []string{"lammps"})
	program{
		config: "lammps.toml", files: map[string]string{"lammps.in": "lammps.in"},
		argv: strings.Fields("lmp -in lammps.in -log none -var steps 4000"),
		step: func(j *harness.Job) int { return strings.Count(j.Read("dump.melt"), "ITEM: TIMESTEP") },
		check: func(t *testing.T, j, undisturbed *harness.Job) {
			got, want := thermo(j), thermo(undisturbed)
			for step := 0; step <= 4000; step += 50 {
				s := strconv.Itoa(step)
				if got[s] == 0 || want[s] == 0 || abs(got[s]-want[s]) > 2e-3*abs(want[s]) {
					t.Errorf("energy at step %d is %v, undisturbed %v", step, got[s], want[s])
				}
			}
			if j.Read("esky.please") != "" || strings.Count(j.Read("stdout"), "read_restart CPU") < 3 {
				t.Error("it was not restarted three times at least")
			}
		},
	}.run(t)
}

// thermo are the total energies by step.
func thermo(j *harness.Job) map[string]float64 {
	all := map[string]float64{}
	for _, line := range strings.Split(j.Read("stdout"), "\n") {
		f := strings.Fields(line)
		if len(f) != 6 {
			continue
		}
		if _, err := strconv.Atoi(f[0]); err != nil {
			continue
		}
		if e, err := strconv.ParseFloat(f[4], 64); err == nil {
			all[f[0]] = e
		}
	}
	return all
}

func abs(x float64) float64 { return max(x, -x) }

func init() { harness.Patience = 5 * time.Minute }
