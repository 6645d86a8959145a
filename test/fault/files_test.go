// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// The job of programs/files.c: it is saved after saveAt steps, and crashes after
// crashAt.
const (
	fileSteps = 9
	saveAt    = 4
	crashAt   = 8
)

// its output files.
var fileNames = []string{"log", "plain", "table", "heap"}

type filesJob struct {
	*harness.Job
	t     *testing.T
	local string
}

func newFilesJob(t *testing.T) *filesJob {
	t.Helper()
	program := filepath.Join(harness.Dir(t), "files")
	harness.Compile(t, program, filepath.Join(harness.Root(), "test/fault/programs/files.c"), "gcc", "-pthread", "-lrt")
	local := filepath.Join("/var/tmp", filepath.Base(harness.Dir(t)))
	t.Cleanup(func() {
		os.RemoveAll(local)
		os.Remove("/dev/shm/" + filepath.Base(local))
		os.Remove("/dev/shm/sem." + filepath.Base(local) + "-sem")
	})
	return &filesJob{harness.NewJob(t, program, fmt.Sprint(fileSteps), local), t, local}
}

// upTo lets the job take its steps, and waits for them.
func (f *filesJob) upTo(r *harness.Run, step int) {
	f.t.Helper()
	for i := range step + 1 {
		f.Write(fmt.Sprintf("go-%d", i), "")
	}
	r.Until(fmt.Sprintf("step %d", step), func() bool { return f.Read("at") == fmt.Sprint(step) })
}

// contents of the output files.
func (f *filesJob) contents() map[string]string {
	all := map[string]string{}
	for _, name := range fileNames {
		all[name] = f.Read(name)
	}
	return all
}

// undisturbed is what the files hold in the end without esky.
func (f *filesJob) undisturbed() map[string]string {
	f.t.Helper()
	other := &filesJob{harness.NewJob(f.t, f.Argv...), f.t, f.local}
	r := other.StartBare()
	other.upTo(r, fileSteps)
	r.WaitFor(0)
	return other.contents()
}

// crashed starts the job, saves it, lets it go on and kills it.
func (f *filesJob) crashed() {
	f.t.Helper()
	r := f.Start()
	r.Until("the first step", func() bool { return f.Read("at") == "0" })
	f.upTo(r, saveAt)
	f.Checkpoint()
	f.upTo(r, crashAt)
	r.Crash()
}

func (f *filesJob) finish(want map[string]string) string {
	f.t.Helper()
	r := f.Start()
	f.Write(fmt.Sprintf("go-%d", fileSteps), "")
	r.WaitFor(0)
	for name, have := range f.contents() {
		if have != want[name] {
			f.t.Errorf("%s has %d bytes that are not those of an undisturbed run (%d): %.200q", name, len(have), len(want[name]), have)
		}
	}
	return r.Stderr()
}

// TestFilesAfterCrash: after a crash the files that the job went on writing are
// put back, and end as if nothing had happened.
func TestFilesAfterCrash(t *testing.T) {
	f := newFilesJob(t)
	want := f.undisturbed()
	for _, policy := range []string{"rollback", "accept"} {
		t.Run(policy, func(t *testing.T) {
			f := newFilesJob(t)
			f.crashed()
			f.Flags = []string{"--files", policy}
			said := f.finish(want)
			says(t, said, "log was cut back", "table has the content again", "saved/table.gen-1.replaced.", "plain was put back")
		})
	}
}

// TestFilesWrittenWhileCopied: a file that is at rest when the job is stopped, and
// written to while it is copied, is in the image as it was.
func TestFilesWrittenWhileCopied(t *testing.T) {
	program := filepath.Join(harness.Dir(t), "rewrites")
	harness.Compile(t, program, filepath.Join(harness.Root(), "test/fault/programs/rewrites.c"), "gcc")
	j := harness.NewJob(t, program)
	r := j.Start()
	r.Until("the file is there", func() bool { _, err := os.Stat(j.Path("begun")); return err == nil })
	for range 3 {
		j.Checkpoint()
		r.Crash()
		r = j.Start()
		r.Until("it goes on", func() bool { return strings.Contains(r.Stderr(), "resumed job") || r.Ended() })
	}
	j.Write("end", "")
	r.WaitFor(0)
}

// TestFilesStrict: nothing is touched where nothing may have changed; and then it
// goes on by the default.
func TestFilesStrict(t *testing.T) {
	f := newFilesJob(t)
	want := f.undisturbed()
	f = newFilesJob(t)
	f.crashed()
	before := f.contents()
	f.Flags = []string{"--files", "strict"}
	r := f.Start()
	r.WaitFor(harness.ExitHost)
	says(t, r.Stderr(), "log has changed", "table has changed", "heap has changed", "plain was replaced", "store is not there")
	for name, have := range f.contents() {
		if have != before[name] {
			t.Errorf("%s was touched by a resume that was refused", name)
		}
	}
	f.Flags = nil
	f.finish(want)
}

// otherHost runs a command with empty directories for temporary files and
// another name of the host.
func otherHost(name string) []string {
	script := "mount -t tmpfs -o mode=1777 x /var/tmp && mount -t tmpfs -o mode=1777 x /dev/shm && hostname " + name +
		` && exec setpriv --ambient-caps=-all --inh-caps=-all -- "$@"`
	return []string{"unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "--uts", "sh", "-c", script, "sh"}
}

// TestFilesOnAnotherHost: where /var/tmp and /dev/shm are empty the files that
// the job had there are put back.
func TestFilesOnAnotherHost(t *testing.T) {
	f := newFilesJob(t)
	if o := f.Command(append(otherHost("a"), "true")...); o.Status != 0 {
		t.Skipf("no namespaces of one's own to play another host: %s", o)
	}
	want := f.undisturbed()
	for _, policy := range []string{"rollback", "accept", "strict"} {
		t.Run(policy, func(t *testing.T) {
			f := newFilesJob(t)
			f.Under = otherHost("a")
			if policy == "strict" {
				r := f.Start()
				r.Until("the first step", func() bool { return f.Read("at") == "0" })
				f.upTo(r, saveAt)
				f.Checkpoint("--stop")
				r.WaitFor(harness.ExitAgain)
			} else {
				f.crashed()
			}
			for i := range fileSteps {
				f.Write(fmt.Sprintf("go-%d", i+1), "")
			}
			f.Under, f.Flags = otherHost("b"), []string{"--files", policy}
			said := f.finish(want)
			if strings.Contains(said, "store was put back") {
				t.Errorf("what had to be expected was said: %s", said)
			}
		})
	}
}
