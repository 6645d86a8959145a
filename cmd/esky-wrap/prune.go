// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/store"
)

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:      "prune",
		Usage:     "remove old images; the newest good one stays, unless --all is said",
		UsageText: "esky-wrap prune [--keep N] [JOB…]\n   esky-wrap prune --all JOB…",
		Flags: []cli.Flag{
			storeFlag(), &cli.IntFlag{Name: "keep", Value: 2, Usage: "good generations to keep, `N`"}, jsonFlag(),
			&cli.BoolFlag{Name: "all", Usage: "remove every image of these jobs, which must not be running: they will not come back"},
		},
		Action: prune,
	}
}

// pruned is what prune did to a job.
type pruned struct {
	Job     string   `json:"job"`
	Removed []uint32 `json:"removed"`
	Bytes   int64    `json:"bytes"`
}

func prune(c *cli.Context) error {
	keep := c.Int("keep")
	if keep < 1 {
		return bad("keep", "%d is less than 1", keep)
	}
	found, err := places(c)
	if err != nil {
		return err
	}
	remove := func(p *monitor.Place) error { return p.Store.Prune(keep) }
	if c.Bool("all") {
		if _, err := names(c, 1, -1); err != nil {
			return err
		}
		remove = removeAll
	}
	all := []pruned{}
	for _, p := range found {
		done, err := pruneOne(p, remove)
		if err != nil {
			return err
		}
		all = append(all, done)
	}
	return newUI(c.Bool("json"), false).answer(all, func(w io.Writer) error { return tellPruned(w, all) })
}

// removeAll forgets a job that nobody wants any more.
func removeAll(p *monitor.Place) error {
	lock, err := p.Store.TryLock()
	if errors.Is(err, store.ErrLocked) {
		return monitor.Fail(monitor.ExitAgain, "end it first", "%s is running: its images stay", p.Job)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return p.RemoveImages()
}

func pruneOne(p *monitor.Place, remove func(*monitor.Place) error) (pruned, error) {
	done := pruned{Job: p.Job, Removed: []uint32{}}
	before, err := imagesOf(p)
	if err != nil {
		return done, err
	}
	if err := remove(p); err != nil {
		return done, err
	}
	after, err := imagesOf(p)
	if err != nil {
		return done, err
	}
	for _, b := range before {
		if !slices.ContainsFunc(after, func(a imageInfo) bool { return a.Generation == b.Generation }) {
			done.Removed = append(done.Removed, b.Generation)
			done.Bytes += b.Bytes
		}
	}
	return done, nil
}

func tellPruned(w io.Writer, all []pruned) error {
	for _, p := range all {
		if _, err := fmt.Fprintf(w, "%s: %d images removed, %s\n", p.Job, len(p.Removed), humanize.IBytes(uint64(p.Bytes))); err != nil {
			return err
		}
	}
	return nil
}
