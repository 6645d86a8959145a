// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read images and check every byte of them",
		UsageText: "esky-wrap verify [--generation N] JOB | DIR",
		Flags: []cli.Flag{
			storeFlag(), generationFlag("only generation `N` (default: all of the job)"), jsonFlag(), quietFlag(),
		},
		Action: verify,
	}
}

// checked is an image that was verified.
type checked struct {
	Job        string `json:"job"`
	Generation uint32 `json:"generation,omitempty"`
	Dir        string `json:"dir"`
	Good       bool   `json:"good"`
	Bytes      int64  `json:"bytes,omitempty"`
	Problem    string `json:"problem,omitempty"`
	err        error
}

func verify(c *cli.Context) error {
	args, err := names(c, 1, 1)
	if err != nil {
		return err
	}
	all, err := targets(c, args[0])
	if err != nil {
		return err
	}
	u := newUI(c.Bool("json"), c.Bool("quiet"))
	results, worst := []checked{}, 0
	for _, t := range all {
		r := verifyOne(c.Context, u, t)
		if r.err != nil {
			worst = max(worst, monitor.Code(r.err))
		}
		results = append(results, r)
	}
	if err := u.answer(results, func(w io.Writer) error { return verified(w, u, results) }); err != nil {
		return err
	}
	if worst != 0 {
		return status(worst)
	}
	return nil
}

func verifyOne(ctx context.Context, u *ui, t target) checked {
	c := checked{Job: t.job, Generation: t.generation, Dir: t.dir}
	c.Bytes, c.err = readAll(ctx, u, t.dir)
	c.Good = c.err == nil
	if c.err != nil {
		c.Problem = c.err.Error()
	}
	return c
}

func readAll(ctx context.Context, u *ui, dir string) (int64, error) {
	r, err := image.Open(dir)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	update, done := u.Progress("verify")
	defer done()
	return r.Size(), r.Verify(ctx, func(n, total int64) { update(engine.Progress{Phase: "read", Done: n, Total: total}) })
}

func verified(w io.Writer, u *ui, results []checked) error {
	for _, r := range results {
		switch {
		case !r.Good:
			u.fail(r.err)
		case !u.quiet:
			if _, err := fmt.Fprintf(w, "%s: good, %s\n", r.Dir, humanize.IBytes(uint64(r.Bytes))); err != nil {
				return err
			}
		}
	}
	return nil
}
