// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
)

// ofFlag names jobs as a scheduler does, for its checkpoint interface: that knows
// neither stores nor the names of jobs in them.
func ofFlag() cli.Flag {
	return &cli.StringFlag{Name: "of", Usage: "all that runs here in the scheduler's job `ID`, whatever its name and store"}
}

func running(c *cli.Context) ([]monitor.Running, error) {
	if _, err := names(c, 0, 0); err != nil {
		return nil, err
	}
	return monitor.Of(c.Context, c.String("of"))
}

func statusOfAll(c *cli.Context) error {
	all, err := running(c)
	if err != nil {
		return err
	}
	return newUI(c.Bool("json"), false).answer(all, func(w io.Writer) error {
		var errs []error
		for _, r := range all {
			_, err := fmt.Fprintf(w, "%s in %s: %s, monitor %d\n", r.Job, r.Store, r.State.State, r.MonitorPid)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func checkpointOf(c *cli.Context) error {
	all, err := running(c)
	if err != nil {
		return err
	}
	done, err := monitor.CheckpointOf(c.Context, all, wished(c))
	u := newUI(c.Bool("json"), c.Bool("quiet"))
	if u.quiet && !u.json {
		return err
	}
	return errors.Join(err, u.answer(done, func(w io.Writer) error {
		var errs []error
		for _, d := range done {
			errs = append(errs, saidSaved(w, d.Job, d.Saved))
		}
		return errors.Join(errs...)
	}))
}
