// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/monitor"
)

func matchCommand() *cli.Command {
	return &cli.Command{
		Name:      "match",
		Usage:     "can this host resume an image? With reasons",
		UsageText: "esky-wrap match [--generation N] JOB | DIR",
		Flags:     []cli.Flag{storeFlag(), generationFlag("generation `N` (default: the newest)"), jsonFlag()},
		Action:    match,
	}
}

// fit is the answer to match.
type fit struct {
	Image   string   `json:"image"`
	Match   bool     `json:"match"`
	Reasons []string `json:"reasons"`
}

func match(c *cli.Context) error {
	r, err := openNamed(c)
	if err != nil {
		return err
	}
	defer r.Close()
	f := fit{Image: r.Dir(), Reasons: []string{}}
	for _, m := range host.Match(r.Meta().GetHost()) {
		f.Reasons = append(f.Reasons, m.String())
	}
	f.Match = len(f.Reasons) == 0
	if err := newUI(c.Bool("json"), false).answer(f, f.print); err != nil {
		return err
	}
	if !f.Match {
		return status(monitor.ExitCannot)
	}
	return nil
}

func (f fit) print(w io.Writer) error {
	if f.Match {
		_, err := fmt.Fprintf(w, "this host can resume %s\n", f.Image)
		return err
	}
	if _, err := fmt.Fprintf(w, "this host cannot resume %s\n", f.Image); err != nil {
		return err
	}
	for _, r := range f.Reasons {
		if _, err := fmt.Fprintf(w, "  %s\n", printable(r)); err != nil {
			return err
		}
	}
	return nil
}
