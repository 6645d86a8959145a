// SPDX-License-Identifier: Apache-2.0

package real

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// TestNames is a job that works with names that are not UTF-8, as Linux allows.
func TestNames(t *testing.T) {
	const odd = "caf\xe9\xff\xc3( x" // as in names.c
	j := harness.NewJob(t, "")
	j.Env = []string{"ESKY_RUNTIME_DIR=" + j.Path("run")} // its path is in JSON
	j.Dir = j.Path(odd)
	j.Store = j.Path("store")
	if err := os.Mkdir(j.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.Give(t, j.Dir)
	j.Argv = []string{harness.Compile(t, j.Path(odd+".bin"), source("names.c"), "gcc")}

	r := j.StartBare()
	said(r, j, "READY")
	j.Write("go", "")
	r.WaitFor(0)
	want := j.Read("stdout")
	for _, name := range []string{"stdout", odd, "go"} {
		if err := os.RemoveAll(j.Path(name)); err != nil {
			t.Fatal(err)
		}
	}

	r = j.Start()
	said(r, j, "READY")
	for range 2 {
		j.Checkpoint("--stop")
		r.WaitFor(harness.ExitAgain)
		r = j.Start()
		lives(r, j)
	}
	j.Checkpoint()
	ask(t, j, "a job with names of any bytes")
	j.Write("go", "")
	r.WaitFor(0)
	compare(t, j, map[string]string{"stdout": want, filepath.Join(odd, odd+".written"): "WRItten", filepath.Join(odd, odd+".mapped"): "MAPped"})
}

func said(r *harness.Run, j *harness.Job, line string) {
	r.Until("it says "+line, func() bool { return strings.Contains(j.Read("stdout"), line+"\n") })
}

// lives waits until the program of names.c runs.
func lives(r *harness.Run, j *harness.Job) {
	j.Write("ping", "")
	r.Until("the program answers", func() bool {
		_, err := os.Stat(j.Path("ping"))
		return os.IsNotExist(err)
	})
}
