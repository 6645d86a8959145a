// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// place is where a job of the test has its files: a directory of its own below
// the cluster's /home/esk.
type place struct {
	t     *testing.T
	id    string
	home  string // the cluster's /home/esk on this machine
	dir   string // on this machine
	name  string // the directory's name
	about func() any
}

func newPlace(t *testing.T, home, name string) place {
	t.Helper()
	p := place{t: t, name: name, home: home, dir: filepath.Join(home, name)}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(p.dir, 5001, 5001); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) await(what string, limit time.Duration, reached func() bool) {
	p.t.Helper()
	for end := time.Now().Add(limit); !reached(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("job %s: waited %v for %s: %v", p.id, limit, what, p.about())
		}
	}
}

// awaitRound waits until the program's output has come so far.
func (p *place) awaitRound(n int, file string) {
	p.t.Helper()
	p.await(fmt.Sprintf("round %d", n), time.Minute, func() bool {
		return strings.Contains(p.read(file), fmt.Sprintf("round %d ", n))
	})
}

func (p *place) read(name string) string {
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		return ""
	}
	return string(text)
}

// hosts are those that the job's attempts ran on, in order.
func (p *place) hosts() []string { return strings.Fields(p.read("hosts")) }

// expect compares the program's output with that of an uninterrupted run.
func (p *place) expect(rounds int, file string) {
	p.t.Helper()
	want, err := exec.Command(filepath.Join(p.home, "count"), fmt.Sprint(rounds), "0", "0").Output()
	if err != nil {
		p.t.Fatal(err)
	}
	if got := p.read(file); got != string(want) {
		p.t.Errorf("output of %s differs from that of an uninterrupted run; got\n%s", file, got)
	}
}

// images lists the generations in the job's store.
func (p *place) images() []string {
	found, err := filepath.Glob(filepath.Join(p.dir, ".esky", "*", "gen-*"))
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}
