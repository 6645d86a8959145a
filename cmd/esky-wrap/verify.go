// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/foreign"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read images and check every byte of them",
		UsageText: "esky-wrap verify [--generation N] JOB | DIR",
		Flags: []cli.Flag{
			storeFlag(), generationFlag("only generation `N` (default: all of the job)"),
			&cli.StringFlag{Name: "provider", Usage: "the plugin `NAME` that made them, if it cannot be found under the name that the images know"},
			jsonFlag(), quietFlag(),
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
		r := verifyOne(c, u, t)
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

func verifyOne(c *cli.Context, u *ui, t target) checked {
	r := checked{Job: t.job, Generation: t.generation, Dir: t.dir}
	r.Bytes, r.err = readAll(c, u, t.dir)
	r.Good = r.err == nil
	if r.err != nil {
		r.Problem = r.err.Error()
	}
	return r
}

func readAll(c *cli.Context, u *ui, dir string) (int64, error) {
	r, err := image.Open(dir)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	update, done := u.Progress("verify")
	defer done()
	if r.ProviderChecks() {
		return r.Size(), askProvider(c, u, r)
	}
	return r.Size(), r.Verify(c.Context, func(n, total int64) { update(engine.Progress{Phase: "read", Done: n, Total: total}) })
}

// askProvider has an image verified that only its provider can verify.
func askProvider(c *cli.Context, u *ui, r *image.Reader) error {
	name := c.String("provider")
	if name == "" {
		name = r.Meta().GetForeign().GetProvider()
	}
	f, err := provider(c, name, func(text string) {
		u.Report(monitor.Event{Level: monitor.Warning, Event: "provider", Text: text})
	})
	if err != nil {
		return monitor.Fail(monitor.Code(err), monitor.Hint(err), "image %s cannot be verified without its provider: %w", r.Dir(), err)
	}
	return foreign.Verify(c.Context, f, r.Dir())
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
