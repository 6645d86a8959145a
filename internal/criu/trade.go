// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// KeeperMain is to be called first by every program that has this provider in it.
// It returns false unless the program was started as the keeper of a job.
func KeeperMain(args []string) bool {
	return keeper.Main(args, Name, newTrade)
}

// own is what the keeper of this provider is told besides.
type own struct {
	Tool  tool
	Image string // to resume; empty: the program is started
	Files string // what becomes of files that have changed
}

// trade implements keeper.Trade.
type trade struct {
	*keeper.Keeper
	own
}

func newTrade(k *keeper.Keeper) (keeper.Trade, error) {
	t := &trade{Keeper: k}
	if err := json.Unmarshal(k.Own, &t.own); err != nil {
		return nil, err
	}
	t.Tool.Work = filepath.Join(k.StateDir, "criu")
	if err := os.Mkdir(t.Tool.Work, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return t, nil
}

// Launch implements keeper.Trade. criu wants a job to be a session of its own.
func (t *trade) Launch() (int, error) {
	if t.Image == "" {
		return t.Fork(t.Command, t.Env, keeper.Streams(), syscall.SysProcAttr{Setsid: true})
	}
	s, err := readState(t.Image)
	if err != nil {
		return 0, err
	}
	inherited := map[string]*os.File{}
	for i, f := range keeper.Streams() {
		if i < len(s.Streams) && s.Streams[i].Key != "" {
			if err := s.Streams[i].goOn(f, t.Files); err != nil {
				return 0, err
			}
			inherited[s.Streams[i].Key] = f
		}
	}
	pid, err := t.Tool.restore(t.Image, inherited)
	if plugin.KindOf(err) == plugin.Refused {
		return 0, plugin.Errorf(plugin.Host, "see "+filepath.Join(t.Tool.Work, "restore.log"), "%v", err)
	}
	return pid, err
}

// goOn makes a stream that is the same file as before go on where it was.
func (s streamFile) goOn(f *os.File, files string) error {
	before, err := os.Stat(s.Path)
	if err != nil {
		return nil // it was no file, or is another one now
	}
	now, err := f.Stat()
	if err != nil || !os.SameFile(before, now) {
		return err
	}
	if now.Size() > s.Size && files == "strict" {
		return plugin.Errorf(plugin.Changed, "resume with files rollback or accept", "%s has grown since the checkpoint", s.Path)
	}
	if files == "accept" {
		return nil
	}
	if now.Size() > s.Size {
		if err := f.Truncate(s.Size); err != nil {
			return err
		}
	}
	_, err = f.Seek(s.Offset, io.SeekStart)
	return err
}

// Checkpoint implements keeper.Trade. While criu waits for the answer to PostDump the
// job stands still: so it is known to be in its place before the job ends.
func (t *trade) Checkpoint(s *keeper.Saving) error {
	main, err := t.Main()
	if err != nil {
		return err
	}
	s.Progress(plugin.Progress{Phase: "criu saves the job"})
	ended := false
	stood := time.Now()
	d := &dumping{done: func() error {
		err := t.complete(s, main)
		if err != nil || !s.Options.Stop {
			return err
		}
		i, err := t.seal(s, stood)
		if err != nil {
			return err
		}
		if ended = s.Saved(i); !ended {
			return errGoOn
		}
		return nil
	}}
	err = t.Tool.dump(s.Options.Dir, main, !s.Options.Stop, d)
	switch {
	case ended:
		t.KillAll() // criu has, most likely
		return nil
	case errors.Is(err, errGoOn):
		return nil
	case err != nil:
		if _, e := t.Main(); e != nil {
			return e
		}
		return err
	case s.Options.Stop:
		return nil
	}
	i, err := t.seal(s, stood)
	if err == nil {
		s.Saved(i)
	}
	return err
}

// errGoOn makes criu let the job go on.
var errGoOn = errors.New("the job goes on")

// complete adds to the image what criu does not write. The job stands still.
func (t *trade) complete(s *keeper.Saving, main int) error {
	if err := context.Cause(s.Ctx); err != nil {
		return err
	}
	if err := t.strays(main); err != nil {
		return err
	}
	st, err := t.describe(main)
	if err != nil {
		return err
	}
	return st.write(s.Options.Dir)
}

// strays refuses processes that criu has not seen: it saves a tree, and those whose
// parent has ended are children of ours.
func (t *trade) strays(main int) error {
	children, err := procfs.Children(os.Getpid())
	if err != nil {
		return err
	}
	for _, pid := range children {
		stat, err := procfs.ReadStat(pid, 0)
		if pid == main || err != nil || stat.State == 'Z' {
			continue
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == t.Tool.Path {
			continue
		}
		return plugin.Errorf(plugin.Refused, "keep its parent alive until it ends, or use provider native",
			"process %d (%s) has left the job's tree, because its parent has ended: criu saves a tree only", pid, stat.Comm)
	}
	return nil
}

// seal completes the image.
func (t *trade) seal(s *keeper.Saving, stood time.Time) (plugin.Image, error) {
	pause := time.Since(stood)
	i, err := plugin.Seal(s.Options.Dir)
	if s.Options.Stop {
		pause = time.Since(stood)
	}
	i.Pause, i.Took, i.Command = pause, time.Since(s.Began), t.Command
	return i, err
}

// Left implements keeper.Trade.
func (t *trade) Left(exit plugin.Exit) (plugin.Exit, bool) { return exit, false }
