// SPDX-License-Identifier: Apache-2.0

package application

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/plugin"
)

// KeeperMain is to be called first by every program that has this provider in it.
// It returns false unless the program was started as the keeper of a job.
func KeeperMain(args []string) bool {
	return keeper.Main(args, Name, func(k *keeper.Keeper) (keeper.Trade, error) { return newTrade(k) })
}

// own is what the keeper of this provider is told besides.
type own struct {
	Argv   []string // to start with
	Config Config
}

// trade implements keeper.Trade.
type trade struct {
	*keeper.Keeper
	own
	tee *tee

	mu      sync.Mutex
	leaving *leaving // the program was asked to end
}

// leaving is how the end of the program that was asked to end is passed to who asked,
// and what comes of it passed back.
type leaving struct {
	exit    chan plugin.Exit
	verdict chan verdict
}

type verdict struct {
	next  []string // to start
	ended bool     // the job is saved, and nothing is started
}

func newTrade(k *keeper.Keeper) (*trade, error) {
	t := &trade{Keeper: k}
	err := json.Unmarshal(k.Own, &t.own)
	if err == nil {
		t.tee, err = newTee(t.Config.Done.Output)
	}
	return t, err
}

// Launch implements keeper.Trade.
func (t *trade) Launch() (int, error) {
	if t.Config.Ask.File != "" { // a request of earlier days
		if err := os.Remove(t.Config.Ask.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	files, done, err := t.tee.open()
	if err != nil {
		return 0, err
	}
	defer done()
	return t.Fork(t.Argv, t.Env, files, syscall.SysProcAttr{Setpgid: true})
}

// Left implements keeper.Trade: the program may have left for a checkpoint, and is
// started again.
func (t *trade) Left(exit plugin.Exit) (plugin.Exit, bool) {
	t.tee.drain()
	t.mu.Lock()
	l := t.leaving
	t.mu.Unlock()
	if l == nil {
		return exit, false
	}
	l.exit <- exit
	v := <-l.verdict
	if v.ended {
		return keeper.Killed, false
	}
	if v.next == nil {
		return exit, false
	}
	t.Argv = v.next
	err := t.Keeper.Launch()
	if plugin.KindOf(err) == plugin.Ended {
		return keeper.Killed, false
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "esky: the program has left for a checkpoint and cannot be started again: %v\n", err)
		return plugin.Exit{Code: 75}, false // EX_TEMPFAIL, sysexits.h
	}
	return plugin.Exit{}, true
}
