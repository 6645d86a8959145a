// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	gocriu "github.com/checkpoint-restore/go-criu/v8"
	"github.com/checkpoint-restore/go-criu/v8/rpc"

	"github.com/esky-hpc/esky/plugin"
)

// tool is the program criu.
type tool struct {
	Path string
	Work string // a directory for its logs
}

// places are where criu is looked for: administrators' programs are often not on a
// user's path.
var places = []string{"criu", "/usr/local/sbin/criu", "/usr/sbin/criu"}

func find(options map[string]string) (tool, error) {
	for name := range options {
		return tool{}, plugin.Errorf(plugin.Usage, "", "the provider criu has no option %q", name)
	}
	for _, name := range places {
		if path, err := exec.LookPath(name); err == nil {
			return tool{Path: path}, nil
		}
	}
	return tool{}, plugin.Errorf(plugin.Host, "install the package criu", "the program criu is not here")
}

// dumping is told when everything is saved, while the processes stand still. An error
// lets them go on where they would have been killed.
type dumping struct {
	gocriu.NoNotify
	done func() error
	err  error
}

// PostDump implements gocriu.Notify.
func (d *dumping) PostDump() error {
	d.err = d.done()
	return d.err
}

// dump saves the processes below pid, and kills them unless they are to run on.
func (t tool) dump(images string, pid int, runOn bool, d *dumping) error {
	o := &rpc.CriuOpts{
		Pid: new(int32(pid)), LeaveRunning: new(runOn),
		GhostLimit: new(uint32(math.MaxUint32)), // files without a name are saved, however large
	}
	err := t.call("dump.log", images, o, nil, func(c *gocriu.Criu) error { return c.Dump(o, d) })
	if d.err != nil {
		return d.err
	}
	return err
}

// restoring learns the pid.
type restoring struct {
	gocriu.NoNotify
	pid int
}

// PostRestore implements gocriu.Notify.
func (r *restoring) PostRestore(pid int32) error {
	r.pid = int(pid)
	return nil
}

// restore makes the processes of images again. The first of them becomes a child of
// this process.
func (t tool) restore(images string, inherited map[string]*os.File) (pid int, err error) {
	o := &rpc.CriuOpts{RstSibling: new(true)}
	var r restoring
	err = t.call("restore.log", images, o, inherited, func(c *gocriu.Criu) error { return c.Restore(o, &r) })
	if err == nil && r.pid == 0 {
		err = errors.New("criu does not say which process it has made")
	}
	return r.pid, err
}

// call has a criu of its own do one thing.
func (t tool) call(log, images string, o *rpc.CriuOpts, inherited map[string]*os.File, do func(*gocriu.Criu) error) error {
	dir, err := os.Open(images)
	if err != nil {
		return err
	}
	defer dir.Close()
	work, err := os.Open(t.Work)
	if err != nil {
		return err
	}
	defer work.Close()
	o.ImagesDirFd, o.WorkDirFd, o.LogFile, o.LogLevel = new(int32(dir.Fd())), new(int32(work.Fd())), new(log), new(int32(1))
	o.FileLocks = new(true)
	// What is restored stays in the cgroups of whoever restores it.
	o.ManageCgroupsMode = new(rpc.CriuCgMode_IGNORE)
	if os.Geteuid() != 0 {
		o.Unprivileged = new(true) // by file capabilities of criu
	}
	c := gocriu.MakeCriu()
	c.SetCriuPath(t.Path)
	for key, file := range inherited {
		c.AddInheritFd(key, file)
	}
	if err := prepare(c, len(inherited)); err != nil {
		return fmt.Errorf("start %s: %w", t.Path, err)
	}
	_ = os.Remove(filepath.Join(t.Work, log)) // of the last time
	err = do(c)
	_ = c.Cleanup() // a keeper reaps all its children: the status may be lost
	if err != nil {
		return t.reason(log, err)
	}
	return nil
}

// prepare starts criu. go-criu hands descriptors on as 3, 4 …, and leaves its socket
// where it happens to be opened: that has to be above them.
func prepare(c *gocriu.Criu, inherited int) error {
	var low []*os.File
	defer func() { plugin.CloseAll(low...) }()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		low = append(low, f)
		if int(f.Fd()) >= 3+inherited {
			return c.Prepare()
		}
	}
}

var (
	errorLine = regexp.MustCompile(`Error \([^)]*\): (.*)`)
	takenLine = regexp.MustCompile(`Can't fork for (\d+): File exists`)
	fileLine  = regexp.MustCompile(`has bad (size|mode|build-ID)|Can't open file|File .* is|Can't link .* on`)
)

// reason is what criu says of a failure: of all the lines, the first one that is an
// error; the next ones say what was given up because of it.
func (t tool) reason(log string, err error) error {
	f, e := os.Open(filepath.Join(t.Work, log))
	if e != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m := errorLine.FindStringSubmatch(lines.Text())
		switch {
		case m == nil, strings.HasPrefix(m[1], "exited, status="): // of a program that criu looked for
		case takenLine.MatchString(m[1]):
			return taken(takenLine.FindStringSubmatch(m[1])[1])
		case fileLine.MatchString(m[1]):
			return plugin.Errorf(plugin.Changed, "put it back to what it was", "criu: %s", m[1])
		default:
			return plugin.Errorf(plugin.Refused, "docs/providers.md says what criu cannot save", "criu: %s", m[1])
		}
	}
	return err
}

// taken says that a process of the job cannot have the number that it had.
func taken(number string) error {
	who := "another process"
	if comm, err := os.ReadFile("/proc/" + number + "/comm"); err == nil {
		who = strings.TrimSpace(string(comm))
	}
	return plugin.Errorf(plugin.Busy, "resume it when that has ended, or on another host", "process number %s of the job is taken by %s", number, who)
}
