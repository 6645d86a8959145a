// SPDX-License-Identifier: Apache-2.0

package dmtcp

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// KeeperMain is to be called first by every program that has this provider in it.
// It returns false unless the program was started as the keeper of a job.
func KeeperMain(args []string) bool {
	return keeper.Main(args, Name, newTrade)
}

// own is what the keeper of this provider is told besides.
type own struct {
	Tools tools
	Image string // to resume; empty: the program is started
}

// trade implements keeper.Trade.
type trade struct {
	*keeper.Keeper
	own
	place place
}

func newTrade(k *keeper.Keeper) (keeper.Trade, error) {
	t := &trade{Keeper: k, place: place(filepath.Join(k.StateDir, "dmtcp"))}
	if err := json.Unmarshal(k.Own, &t.own); err != nil {
		return nil, err
	}
	return t, t.place.make()
}

// Launch implements keeper.Trade. dmtcp_launch and dmtcp_restart become the program.
func (t *trade) Launch() (int, error) {
	argv := t.Tools.restart(t.place, place(t.Image).images())
	if t.Image == "" {
		if _, err := keeper.Find(t.Command[0]); err != nil {
			return 0, err
		}
		argv = t.Tools.launch(t.place, t.Command)
	}
	// No session of its own: dmtcp_restart does not wait for a leader of one.
	return t.Fork(argv, t.Env, keeper.Streams(), syscall.SysProcAttr{Setpgid: true})
}

// Checkpoint implements keeper.Trade. It ends no job by DMTCP, which would do so
// before the image is in its place.
func (t *trade) Checkpoint(s *keeper.Saving) error {
	for _, old := range t.place.images() {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	argv, err := t.Tools.checkpoint(t.place)
	if err != nil {
		return err
	}
	s.Progress(plugin.Progress{Phase: "DMTCP saves the job"})
	exit, err := t.Beside(s.Ctx, argv, t.Env)
	stood := time.Now()
	if err != nil {
		return err
	}
	if exit.Status() != 0 || len(t.place.images()) == 0 {
		if _, err := t.Main(); err != nil {
			return err
		}
		return plugin.Errorf(plugin.Refused, "see what it says on standard error; a static program has to be saved by provider native",
			"DMTCP has made no checkpoint: dmtcp_command ends with status %d", exit.Status())
	}
	if s.Options.Stop {
		if err := t.StopAll(); err != nil {
			return errors.Join(err, t.SignalAll(unix.SIGCONT))
		}
		defer t.SignalAll(unix.SIGCONT) // who was killed is gone
	}
	i, err := t.seal(s)
	if err != nil {
		return err
	}
	i.Pause, i.Took, i.Command = stood.Sub(s.Began), time.Since(s.Began), t.Command
	if s.Saved(i) {
		t.KillAll()
	}
	return nil
}

// seal makes an image of what DMTCP has written.
func (t *trade) seal(s *keeper.Saving) (i plugin.Image, err error) {
	j := job{Command: t.Command, Dir: t.Dir}
	if j.Host, err = host.Describe(); err != nil {
		return i, err
	}
	b, err := json.Marshal(j)
	if err != nil {
		return i, err
	}
	if err := os.WriteFile(filepath.Join(s.Options.Dir, jobName), b, 0o600); err != nil {
		return i, err
	}
	for _, path := range t.place.images() {
		err := os.Rename(path, filepath.Join(s.Options.Dir, filepath.Base(path)))
		if errors.Is(err, unix.EXDEV) {
			err = plugin.CopyFiles(s.Options.Dir, path)
		}
		if err != nil {
			return i, err
		}
	}
	return plugin.Seal(s.Options.Dir)
}

// Left implements keeper.Trade.
func (t *trade) Left(exit plugin.Exit) (plugin.Exit, bool) { return exit, false }
