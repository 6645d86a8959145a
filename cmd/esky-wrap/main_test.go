// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/store"
)

func TestMain(m *testing.M) {
	// Workers are this test binary executed once more.
	if engine.WorkerMain(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == host.Verb {
		host.ProbeMain(os.Args[2:])
	}
	testscript.Main(m, map[string]func(){
		"esky-wrap": main,
		"fakejob":   fakeJob,
		"says":      says,
	})
}

// The scripts need no job to run: they are about what the command says and
// returns. Whole jobs are run by test/real and test/fault.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// A short path: sockets do not fit into long ones.
			dir, err := os.MkdirTemp("/tmp", "esky-script")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("ESKY_RUNTIME_DIR", dir+"/run")
			e.Setenv("SLURM_JOB_ID", "")
			return os.Chmod(e.WorkDir, 0o755)
		},
	})
}

// says runs a command that must end with a status: says 64 esky-wrap …
func says() {
	if len(os.Args) < 3 {
		os.Exit(2)
	}
	code := run(os.Args[2:])
	if fmt.Sprint(code) != os.Args[1] {
		fmt.Printf("STATUS %d, want %s\n", code, os.Args[1])
		os.Exit(1)
	}
}

// fakeJob makes a job in a store, with images that have nothing in them.
func fakeJob() {
	dir := flag.String("store", "store", "")
	images := flag.Int("images", 0, "")
	done := flag.Int("done", -1, "")
	arch := flag.String("arch", "", "")
	local := flag.String("local", "", "")
	near := flag.Bool("near", false, "")
	flag.Parse()
	err := makeJob(*dir, flag.Arg(0), *images, *done, *arch)
	if err == nil && *local != "" {
		err = makeNear(*dir, flag.Arg(0), *local, *near)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func makeJob(dir, job string, images, done int, arch string) error {
	s, err := store.Open(dir, job)
	if err != nil {
		return err
	}
	token, err := s.Take(store.Holder{Host: "n1", MonitorPid: 7, Started: time.Unix(1e9, 0), Command: []string{"./prog"}})
	if err != nil {
		return err
	}
	for range images {
		p, err := s.Begin(token)
		if err := makeImage(p, err, job, arch); err != nil {
			return err
		}
	}
	if done >= 0 {
		return s.SetDone(store.DoneRecord{Status: done, Host: "n1", Time: time.Unix(1e9, 0)})
	}
	return nil
}

// makeNear says that images are in a place on a host, which is this one if there is
// one there.
func makeNear(dir, job, local string, here bool) error {
	far, err := store.Existing(dir, job)
	if err != nil {
		return err
	}
	h, err := far.Holder()
	if err != nil {
		return err
	}
	h.Local = local
	if !here {
		return far.SetHolder(*h)
	}
	near, err := far.Near(local)
	if err != nil {
		return err
	}
	h.Local = near.Dir()
	if h.Host, err = os.Hostname(); err != nil {
		return err
	}
	if err := errors.Join(far.SetHolder(*h), near.Follow(*h)); err != nil {
		return err
	}
	p, err := near.Begin(h.Token)
	return makeImage(p, err, job, "")
}

func makeImage(p *store.Pending, err error, job, arch string) error {
	if err != nil {
		return err
	}
	w, err := image.Create(p.Dir(), image.Codec{})
	if err != nil {
		return err
	}
	h, err := host.Describe()
	if err != nil {
		return err
	}
	if arch != "" {
		h.Arch = arch
	}
	err = w.Finish(&imagepb.Image{
		Job: job, Generation: p.Generation(), Host: h, Command: []string{"./prog", "an\x1b[31marg"}, Cwd: "/work",
		Processes: []*imagepb.Process{{Pid: 1002, Ppid: 1, Comm: "prog", Threads: []*imagepb.Thread{{Tid: 1002}}}},
	})
	if err != nil {
		return err
	}
	return p.Publish()
}
